"""Published rules for where to start in a motion, as settings of `failure_bins`.

* `beyondmimic_released`: moving average of failure counts by the bin of the failure, an additive
  prior in place of a floor (its uniform share shrinks as failures grow), kernel of one bin.
* `beyondmimic_paper`: failures over episodes by starting bin, both moving averages, a kernel of
  three bins, a true floor of 10 %.
* `motion_bins_proposal`: total failures over total episodes by starting bin, smoothed by 0.1, a
  kernel of five bins cut off at the end, a floor of 10 %.
* `sonic`: (1 + F) / (1 + N) without forgetting, rates clipped at 50 times their mean, a floor of
  10 %, bins weighed by length, starts up to 4 s (200 frames) before the bin.
* `textop`: failures over episodes per clip, to a power, a floor; a clip's share does not grow with
  its length.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "beyondmimic_released": {
        "bin_rule": "floor_plus_one",
        "statistic": "counts",
        "decay": 0.999,
        "gain": 0.001,
        "is_per_environment": False,
        "is_probability": False,
        "kernel_size": 1,
        "kernel_edge": "replicate",
        "prior_ratio": 0.1,
        "uniform_fraction": 0.0,
        "cap": None,
        "stuck_share": 1.0,
        "is_edge_map": True,
    },
    "beyondmimic_paper": {
        "bin_rule": "floor_plus_one",
        "statistic": "rate",
        "decay": 0.999,
        "gain": 0.001,
        "is_per_environment": False,
        "is_probability": False,
        "is_exposure_in_passes": False,
        "prior_failures": 0.0,
        "prior_exposure": 1e-9,
        "kernel_size": 3,
        "kernel_decay": 0.8,
        "kernel_edge": "replicate",
        "uniform_fraction": 0.1,
        "cap": None,
        "stuck_share": 1.0,
    },
    "motion_bins_proposal": {
        "statistic": "smoothed_ratio",
        "decay": 1.0,
        "gain": 1.0,
        "is_per_environment": False,
        "is_probability": False,
        "is_exposure_in_passes": False,
        "trend_decay": 0.9,
        "kernel_size": 5,
        "kernel_decay": 0.9,
        "kernel_edge": "stop",
        "uniform_fraction": 0.1,
        "cap": None,
        "stuck_share": 1.0,
    },
    "sonic": {
        "statistic": "rate",
        "decay": 1.0,
        "gain": 1.0,
        "is_per_environment": False,
        "is_probability": False,
        "prior_failures": 1.0,
        "prior_exposure": 1.0,
        "rate_cap": 50.0,
        "kernel_size": 1,
        "uniform_fraction": 0.1,
        "cap": None,
        "is_length_weighted": True,
        "stuck_share": 1.0,
        "look_back_frames": 200,
    },
    "textop": {
        "statistic": "rate",
        "decay": 0.9,
        "gain": 0.1,
        "is_per_environment": False,
        "is_probability": False,
        "is_exposure_in_passes": False,
        "prior_failures": 1e-3,
        "prior_exposure": 2e-3,
        "is_per_clip": True,
        "is_clip_balanced": True,
        "exponent": 0.5,
        "kernel_size": 1,
        "uniform_fraction": 0.1,
        "cap": None,
        "stuck_share": 1.0,
    },
}
