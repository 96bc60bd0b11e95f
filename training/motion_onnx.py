"""Writes a policy as ONNX, its observation's normalisation inside, and checks it."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from motion import normalisation, observations, ppo
from motion.env import EnvConfig
from motion.ppo import Learner, PpoConfig
from motion.robots import Robot
from scenes.formats.atomic import write_file

_OPSET, _IR = 17, 9
TOLERANCE = 1e-4


def export(
    path: Path, learner: Learner, config: PpoConfig, env: EnvConfig, robot: Robot
) -> dict[str, Any]:
    """Writes PATH: input `observation` [batch, numbers], output `action` [batch, joints].

    The file's metadata says what the numbers are: observation terms with their sizes, joint names,
    default pose, action scale, gains, and what an action is added to.

    Returns:
      {"path", "largest_difference"}: against JAX on random observations, None without onnxruntime.
    Raises:
      ValueError: without the package onnx, or when the written file computes something else.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise ValueError('ONNX export needs the package onnx: pip install "hardlight[onnx]"') from (
            error
        )
    params = jax.device_get(learner.params.policy)
    moments = jax.device_get(learner.actor)
    size, joints = moments.mean.shape[0], robot.num_joints
    deviation = np.maximum(np.sqrt(moments.variance), normalisation.LEAST_DEVIATION)
    arrays = {
        "mean": moments.mean,
        "deviation": deviation,
        "low": np.float32(-normalisation.LARGEST),
        "high": np.float32(normalisation.LARGEST),
    }
    nodes = [
        helper.make_node("Sub", ["observation", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "low", "high"], ["layer_0"]),
    ]
    count = len(config.network.hidden) + 1
    for layer in range(count):
        arrays[f"kernel_{layer}"] = params[f"Dense_{layer}"]["kernel"]
        arrays[f"bias_{layer}"] = params[f"Dense_{layer}"]["bias"]
        is_last = layer == count - 1
        out = "action" if is_last else f"linear_{layer}"
        inputs = [f"layer_{layer}", f"kernel_{layer}", f"bias_{layer}"]
        nodes.append(helper.make_node("Gemm", inputs, [out]))
        if not is_last:
            nodes.append(helper.make_node("Elu", [out], [f"layer_{layer + 1}"]))
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", size])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", joints])],
        [
            numpy_helper.from_array(np.asarray(array, np.float32), name)
            for name, array in arrays.items()
        ],
    )
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR)
    helper.set_model_props(model, _metadata(env, robot))
    onnx.checker.check_model(model)
    write_file(path, lambda partial: partial.write_bytes(model.SerializeToString()))
    return {"path": str(path), "largest_difference": _compare(path, learner, config, size)}


def _metadata(env: EnvConfig, robot: Robot) -> dict[str, str]:
    sizes = observations.term_sizes(env.actor_terms, robot)
    terms = [
        {"name": term.name, "size": size} for term, size in zip(env.actor_terms, sizes, strict=True)
    ]
    scale = robot.action_scale if env.action_scale is None else env.action_scale
    values: dict[str, Any] = {
        "robot": robot.name,
        "joint_names": list(robot.joint_names),
        "observation_terms": terms,
        "default_joint_position": [float(x) for x in robot.default_joint_position],
        "stiffness": [float(x) for x in robot.stiffness],
        "damping": [float(x) for x in robot.damping],
        "action_scale": [float(x) for x in np.broadcast_to(scale, robot.num_joints)],
        "action_is_added_to": env.action_centre,
        "control_rate": robot.control_rate,
        "anchor_body": robot.tracked_bodies[robot.anchor],
    }
    return {name: json.dumps(value) for name, value in values.items()}


def _compare(path: Path, learner: Learner, config: PpoConfig, size: int) -> float | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    spread = np.sqrt(np.asarray(learner.actor.variance))
    seen = np.random.default_rng(0).normal(size=(64, size)) * spread + np.asarray(
        learner.actor.mean
    )
    seen = seen.astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = np.asarray(session.run(["action"], {"observation": seen})[0])
    ours = np.asarray(ppo.mean_action(config, learner, jax.numpy.asarray(seen)))
    gap = float(np.max(np.abs(theirs - ours)))
    if not gap <= TOLERANCE * max(1.0, float(np.max(np.abs(ours)))):
        raise ValueError(f"{path}: the exported policy differs from this one by {gap:.2e}")
    return gap
