"""Robots: the built-in humanoid's proportions and stance, the G1's numbers, files good and bad."""

import importlib.metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from motion.formats import mjcf
from motion.formats.mjcf import load_robot, read_mjcf
from motion.kinematics import clip_kinematics
from motion.robots import Motor, build_robot, contacts, humanoid, humanoid_robot, tuned_motor
from motion.tree_kinematics import bodies_at, tree_of

from .tiny import DESCRIPTION, tiny_robot, tiny_spec


def write(tmp_path, text):
    path = tmp_path / "robot.xml"
    path.write_text(text)
    return path


LEGGED = """
<mujoco>
  <asset><mesh name="shell" file="is_not_here.stl"/></asset>
  <worldbody>
    <body name="pelvis" pos="0 0 1">
      {root}
      <geom type="mesh" mesh="shell"/>
      <geom type="sphere" size="0.1"/>
      <body name="torso" pos="0 0 0.2">
        <joint name="waist" axis="0 0 1" range="-1 1"/>
        <geom type="sphere" size="0.1"/>
      </body>
      <body name="left_foot" pos="0 0.1 -0.5">
        <joint name="left_leg" axis="0 1 0" range="-60 60" {joint}/>
        <geom type="{foot}" size="0.05" {mesh}/>
      </body>
      <body name="right_foot" pos="0 -0.1 -0.5">
        <joint name="right_leg" axis="0 1 0" range="-60 60" {joint}/>
        <geom type="{foot}" size="0.05" {mesh}/>
      </body>
    </body>
  </worldbody>
  <actuator>{actuators}</actuator>
  <keyframe>
    <key name="home" qpos="0 0 0.6 1 0 0 0 0 0.2 -0.2"/>
  </keyframe>
</mujoco>
"""


def legged(**changes):
    parts = {
        "root": "<freejoint/>",
        "joint": 'actuatorfrcrange="-20 20"',
        "foot": "sphere",
        "mesh": "",
        "actuators": "".join(
            f'<position joint="{j}" kp="30" kv="2" forcerange="-7 7"/>'
            for j in ("waist", "left_leg", "right_leg")
        ),
    }
    return LEGGED.format(**{**parts, **changes})


def test_the_humanoid_has_the_mass_and_proportions_of_a_person():
    robot = humanoid_robot()
    model = robot.model
    np.testing.assert_allclose(model.body_mass.sum(), humanoid.MASS, rtol=1e-3)
    data = mujoco.MjData(model)
    data.qpos[:7] = [0, 0, 0.53 * humanoid.STATURE + 0.04, 1, 0, 0, 0]
    mujoco.mj_forward(model, data)
    ground = [i for i in range(model.ngeom) if model.geom_bodyid[i]]
    top = max(data.geom_xpos[i][2] + model.geom_size[i][0] for i in ground)
    np.testing.assert_allclose(top, humanoid.STATURE, atol=0.05)
    share = data.subtree_com[1][2] / humanoid.STATURE
    assert 0.53 < share < 0.59  # a standing man's centre of mass, Winter 2009
    assert 20 <= robot.num_joints <= 23


def test_the_humanoid_is_the_same_on_both_sides():
    robot = humanoid_robot()
    for i, name in enumerate(robot.joint_names):
        if name.startswith("left"):
            j = robot.joint_names.index(name.replace("left", "right"))
            is_mirrored = "roll" in name or "yaw" in name
            low, high = (
                (-robot.upper[j], -robot.lower[j])
                if is_mirrored
                else (
                    robot.lower[j],
                    robot.upper[j],
                )
            )
            np.testing.assert_allclose([robot.lower[i], robot.upper[i]], [low, high])
            assert robot.stiffness[i] == robot.stiffness[j]
            sign = -1 if is_mirrored else 1
            pose = robot.default_joint_position
            np.testing.assert_allclose(pose[i], sign * pose[j])


def test_the_humanoid_stands_in_its_default_pose():
    robot = humanoid_robot()
    model, data = robot.model, mujoco.MjData(robot.model)
    data.qpos[:] = robot.default_qpos
    data.ctrl[:] = robot.default_joint_position
    mujoco.mj_forward(model, data)
    assert data.ncon > 0  # on the floor, not above
    assert data.contact.dist.min() > -1e-3  # and not in it
    for _ in range(round(2.5 / model.opt.timestep)):
        mujoco.mj_step(model, data)
    anchor = robot.tracked_ids[robot.anchor]
    assert abs(data.qpos[2] - robot.default_root_height) < 0.05
    assert data.xmat[anchor].reshape(3, 3)[2, 2] > 0.98


def test_controls_are_target_angles():
    robot = tiny_robot()
    model, data = robot.model, mujoco.MjData(robot.model)
    data.qpos[:] = robot.default_qpos
    data.qvel[6:] = [0.5, -0.25]
    data.ctrl[:] = robot.default_joint_position + np.array([0.1, -0.2])
    mujoco.mj_forward(model, data)
    expected = robot.stiffness * [0.1, -0.2] - robot.damping * [0.5, -0.25]
    np.testing.assert_allclose(data.qfrc_actuator[6:], expected, atol=1e-9)
    data.ctrl[:] = 100.0
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.qfrc_actuator[6:], robot.effort_limit)


def test_the_solver_is_the_same_for_every_robot():
    for robot in (tiny_robot(), humanoid_robot()):
        option = robot.model.opt
        assert option.jacobian == mujoco.mjtJacobian.mjJAC_DENSE
        assert option.timestep * robot.num_substeps * robot.control_rate == pytest.approx(1.0)
        assert robot.model.nmesh == 0


def test_motors_are_those_of_the_table():
    motor = tuned_motor(0.025101925, 139.0)
    assert motor.stiffness == pytest.approx(99.1, abs=0.05)
    assert motor.damping == pytest.approx(6.31, abs=0.005)
    assert tuned_motor(0.003609725, 25.0, count=2).effort == 50.0
    with pytest.raises(ValueError, match="positive"):
        Motor(stiffness=0.0, damping=0.0, effort=1.0, armature=0.0)
    with pytest.raises(ValueError, match="finite"):
        Motor(stiffness=1.0, damping=np.nan, effort=1.0, armature=0.0)


def test_more_contacts_on_request():
    feet, everything = humanoid_robot(), humanoid_robot(collision="floor")
    assert feet.model.npair == 8
    assert everything.model.npair > feet.model.npair
    with pytest.raises(ValueError, match="collision"):
        contacts.set_floor_contacts(tiny_spec(), ("left_leg",), "ghost")


def test_a_box_flat_on_the_floor_touches_at_its_corners():
    robot = humanoid_robot()
    model, data = robot.model, mujoco.MjData(robot.model)
    data.qpos[2], data.qpos[3] = 0.53 * humanoid.STATURE + 0.04 - 1e-4, 1.0
    mujoco.mj_forward(model, data)
    points = data.contact.pos[data.contact.pos[:, 1] > 0][:, :2]
    assert len(points) == 4
    np.testing.assert_allclose(np.ptp(points, axis=0), [0.25, 0.09], atol=1e-6)


@pytest.fixture(scope="module")
def g1():
    try:
        mjcf.g1_path()
    except FileNotFoundError:
        pytest.skip("the package with the G1 is not installed")
    return load_robot("g1")


def test_the_g1_has_the_published_numbers(g1):
    assert (g1.model.nq, g1.model.nv, g1.num_joints) == (36, 35, 29)
    assert g1.default_root_height == pytest.approx(0.76, abs=0.005)
    assert g1.model.body_mass.sum() == pytest.approx(33.34, abs=0.01)
    scale = dict(zip(g1.joint_names, g1.action_scale, strict=True))
    expected = {
        "left_elbow_joint": 0.439,
        "left_hip_pitch_joint": 0.548,
        "right_knee_joint": 0.351,
        "right_wrist_yaw_joint": 0.075,
        "left_ankle_roll_joint": 0.439,
    }
    for name, value in expected.items():
        assert scale[name] == pytest.approx(value, abs=6e-4)
    assert len(g1.tracked_bodies) == 14
    assert g1.tracked_bodies[g1.anchor] == "torso_link"


def test_the_g1_is_asked_for_when_it_is_missing(monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", nothing)
    with pytest.raises(FileNotFoundError, match=r"pip install .*g1"):
        load_robot("g1")


def test_any_file_is_described_by_what_it_says(tmp_path):
    robot = load_robot(write(tmp_path, legged()))
    assert robot.joint_names == ("waist", "left_leg", "right_leg")
    assert robot.tracked_bodies[0] == "pelvis"
    assert robot.tracked_bodies[robot.anchor] == "torso"
    assert [robot.tracked_bodies[i] for i in robot.feet] == ["left_foot", "right_foot"]
    np.testing.assert_allclose(robot.stiffness, 30.0)
    np.testing.assert_allclose(robot.damping, 2.0)
    np.testing.assert_allclose(robot.effort_limit, [7.0, 20.0, 20.0])
    np.testing.assert_allclose(robot.default_joint_position, [0.0, 0.2, -0.2])
    np.testing.assert_allclose(robot.upper[1:], np.pi / 3)


def test_gains_behind_a_gear_and_ratios_of_damping_are_what_mujoco_makes_of_them(tmp_path):
    actuators = (
        '<position joint="waist" kp="30" kv="2" gear="3" forcerange="-7 7"/>'
        '<position joint="left_leg" kp="30" dampratio="1" forcerange="-7 7"/>'
        '<position joint="right_leg" kp="30" dampratio="0.5" gear="2" forcerange="-7 7"/>'
    )
    text = legged(actuators=actuators)
    robot = load_robot(write(tmp_path, text))
    np.testing.assert_allclose(robot.stiffness, [270.0, 30.0, 120.0])
    model = read_mjcf(write(tmp_path, text)).compile()
    gear, bias = model.actuator_gear[:, 0], model.actuator_biasprm[:, 2]
    np.testing.assert_allclose(robot.damping, -bias * gear**2)
    assert np.all(bias < 0)
    np.testing.assert_allclose(robot.effort_limit, [21.0, 20.0, 20.0])


def test_scenery_beside_the_robot_is_not_its_root(tmp_path):
    table = '<body name="table" pos="2 0 0"><geom type="box" size="1 1 .1"/></body>'
    scene = legged().replace("<worldbody>", f"<worldbody>{table}")
    assert "table" in scene
    robot, alone = (load_robot(write(tmp_path, text)) for text in (scene, legged()))
    assert robot.tracked_bodies == alone.tracked_bodies
    assert robot.anchor == alone.anchor
    qpos = np.concatenate([[0.0, 0, 1, 1, 0, 0, 0], [0.1, 0.2, -0.1]])[None]
    qvel = np.random.default_rng(0).normal(size=(1, 9))
    for one, other in zip(
        jax.tree.leaves(clip_kinematics(robot, qpos, qvel)),
        jax.tree.leaves(clip_kinematics(alone, qpos, qvel)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-9)
    found = bodies_at(tree_of(robot), jnp.asarray(qpos), jnp.asarray(qvel))
    np.testing.assert_allclose(
        found.position, clip_kinematics(alone, qpos, qvel).position, atol=1e-5
    )


def test_mujocos_own_humanoid_loads():
    folder = Path(mujoco.__file__).parent
    path = folder / "mjx" / "test_data" / "humanoid" / "humanoid.xml"
    if not path.exists():
        pytest.skip("MJX came without its test humanoid")
    robot = load_robot(path)
    assert robot.num_joints == 21
    assert len(robot.feet) == 2
    # its file gives every new actuator a gear and limits of control
    np.testing.assert_array_equal(robot.model.actuator_gear[:, 0], 1.0)
    assert not robot.model.actuator_ctrllimited.any()


def test_defaults_of_a_file_for_actuators_do_not_reach_our_motors(tmp_path):
    plain = write(tmp_path, legged())
    robot = load_robot(plain)
    other = plain.with_name("other.xml")
    default = '<default><motor ctrllimited="true" ctrlrange="-0.4 0.4" gear="3"/></default>'
    text = plain.read_text()
    assert "<default>" not in text
    other.write_text(text.replace("<worldbody>", f"{default}<worldbody>", 1))
    changed = load_robot(other)
    for field in ("actuator_gear", "actuator_ctrllimited", "actuator_actlimited"):
        np.testing.assert_array_equal(
            getattr(changed.model, field), getattr(robot.model, field), err_msg=field
        )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"root": ""}, "free joint"),
        ({"root": '<joint name="slider" type="slide"/>'}, "free joint"),
        ({"actuators": ""}, "joint waist has neither a position actuator nor an armature"),
        ({"foot": "mesh", "mesh": 'mesh="shell"'}, "foot left_foot has no shape to stand on"),
    ],
)
def test_files_that_cannot_be_used_say_why(tmp_path, changes, reason):
    with pytest.raises(ValueError, match=reason):
        load_robot(write(tmp_path, legged(**changes)))


def with_chain(length, name):
    """The legged robot with a chain of jointed bodies on its torso."""
    chain = "".join(
        f'<body name="{name}{i}"><joint name="{name}_joint{i}" armature="0.01" range="-1 1"/>'
        '<geom type="sphere" size="0.02" mass="0.1"/>'
        for i in range(length)
    )
    text = legged().replace('<geom type="sphere" size="0.1"/>\n      </body>', "@", 1)
    assert "@" in text
    text = text.replace("@", f'<geom type="sphere" size="0.1"/>{chain}{"</body>" * length}</body>')
    return text[: text.index("<keyframe>")] + "</mujoco>"


def test_a_file_that_says_too_little_is_told_what_to_add(tmp_path):
    bare = legged(actuators="")
    ratio = '<position joint="waist" kp="30" dampratio="1"/>'
    nameless = legged().replace("left_foot", "left_x").replace("right_foot", "right_x")
    for text, wanted in (
        (nameless, "none of torso, left_x, right_x is called foot, ankle or toe; name them so"),
        (bare, "give it a <position> actuator with kp and kv, or an armature"),
        (legged(actuators=ratio, foot="mesh", mesh='mesh="shell" mass="1"'), "give it kv instead"),
        (with_chain(30, "link"), "34 bodies to track are more than 32; give 6 or more in the file"),
    ):
        with pytest.raises(ValueError, match=r"file|actuator") as raised:
            load_robot(write(tmp_path, text))
        assert wanted in str(raised.value)
        assert str(raised.value).endswith("from Python: load_robot(description=...)")


def test_as_many_bodies_are_tracked_as_the_file_names(tmp_path):
    assert len(load_robot(write(tmp_path, with_chain(28, "link"))).tracked_bodies) == 32
    named = with_chain(30, "link")
    for i in range(6):
        named = named.replace(f'"link{i}"', f'"link{i}_knee"')
    tracked = load_robot(write(tmp_path, named)).tracked_bodies
    assert [name for name in tracked if "link" in name] == [f"link{i}_knee" for i in range(6)]


def test_bad_paths_and_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="humanoid, g1, or the path"):
        load_robot("atlas")
    with pytest.raises(FileNotFoundError, match="no MJCF file"):
        load_robot(tmp_path / "none.xml")
    with pytest.raises(ValueError, match="not a readable MJCF file"):
        load_robot(write(tmp_path, "<mujoco><body></mujoco>"))
    headless = legged().replace("left_foot", "left_x").replace("right_foot", "right_x")
    with pytest.raises(ValueError, match="which bodies are feet"):
        load_robot(write(tmp_path, headless))


def test_descriptions_that_do_not_fit_are_refused():
    import dataclasses

    with pytest.raises(ValueError, match="no body left_arm"):
        build_robot(
            tiny_spec(),
            dataclasses.replace(
                DESCRIPTION, tracked_bodies=(*DESCRIPTION.tracked_bodies, "left_arm")
            ),
        )
    with pytest.raises(ValueError, match="no motor is given for joints right_joint"):
        build_robot(
            tiny_spec(),
            dataclasses.replace(DESCRIPTION, motors=(("left*", DESCRIPTION.motors[0][1]),)),
        )
    with pytest.raises(ValueError, match="anchor"):
        dataclasses.replace(DESCRIPTION, anchor="head")
    with pytest.raises(ValueError, match="feet"):
        dataclasses.replace(DESCRIPTION, feet=("base",))
    with pytest.raises(ValueError, match="distinct"):
        dataclasses.replace(DESCRIPTION, tracked_bodies=("base", "base"))
