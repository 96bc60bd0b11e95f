"""Joint orders of files that carry no names, for the Unitree G1 with 29 joints."""

_LEG = ("hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll")
_ARM = (
    "shoulder_pitch",
    "shoulder_roll",
    "shoulder_yaw",
    "elbow",
    "wrist_roll",
    "wrist_pitch",
    "wrist_yaw",
)
_WAIST = ("waist_yaw", "waist_roll", "waist_pitch")

G1_JOINTS: tuple[str, ...] = (
    *(f"left_{part}_joint" for part in _LEG),
    *(f"right_{part}_joint" for part in _LEG),
    *(f"{part}_joint" for part in _WAIST),
    *(f"left_{part}_joint" for part in _ARM),
    *(f"right_{part}_joint" for part in _ARM),
)
"""Depth first, as in MuJoCo: legs, waist, arms."""

G1_JOINTS_WITHOUT_WRISTS: tuple[str, ...] = tuple(name for name in G1_JOINTS if "wrist" not in name)
"""The 23 joints of motions made for the G1 with fixed wrists."""


def breadth_first() -> tuple[str, ...]:
    """The G1's joints as Isaac orders them: by depth in the tree, left, right, waist.

    Examples:
      >>> breadth_first()[:4]
      ('left_hip_pitch_joint', 'right_hip_pitch_joint', 'waist_yaw_joint', 'left_hip_roll_joint')
    """
    # arms hang on the last of the three waist joints
    chains = [
        [f"left_{part}" for part in _LEG],
        [f"right_{part}" for part in _LEG],
        list(_WAIST),
        [*[""] * len(_WAIST), *(f"left_{part}" for part in _ARM)],
        [*[""] * len(_WAIST), *(f"right_{part}" for part in _ARM)],
    ]
    depth = max(len(chain) for chain in chains)
    return tuple(
        f"{chain[level]}_joint"
        for level in range(depth)
        for chain in chains
        if level < len(chain) and chain[level]
    )
