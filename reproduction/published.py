"""Published figures, each with its source. Errors are medians per scene, and their mean over the scenes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Error = tuple[float, float | None]  # centimetres, degrees where they are published


@dataclass(frozen=True)
class Published:
    """The figures of one method on one data set."""

    method: str
    source: str  # where they are published
    average: Error | None = None
    scenes: Mapping[str, Error] = field(default_factory=dict)
    # Percent of the queries, mean over the scenes, by threshold.
    recall: Mapping[str, float] = field(default_factory=dict)


_GSPLATLOC = "GSplatLoc (Sidorov et al., IROS 2025)"
_GSCPR = "GS-CPR (Liu et al., ICLR 2025)"
_GSVISLOC = "GSVisLoc (2025)"
_STDLOC = "repository of STDLoc (CVPR 2025), June 2025"
_ACE = "ACE (Brachmann et al., CVPR 2023)"
_LIMITS = "estimates published by Brachmann et al. (ICCV 2021), evaluated again"
_RGBD = "GSplatLoc RGB-D (Zhou, 2024)"
_QUOTED = "as quoted by papers on localization in splats"
_TRACKERS = "as quoted by papers on RGB-D tracking in splats"

_ACE_SCENES: Mapping[str, Error] = {"redkitchen": (0.8, 0.20)}
_ACE_GSCPR_SCENES: Mapping[str, Error] = {"redkitchen": (0.7, 0.17)}

_ACE_7SCENES = Published(
    "ACE", f"{_ACE}; scenes: {_GSCPR}", (1.10, 0.34), _ACE_SCENES, {"5cm_5deg": 97.1, "2cm_2deg": 83.3}
)
_ACE_GSCPR_7SCENES = Published("ACE + GS-CPR", _GSCPR, (0.8, 0.25), _ACE_GSCPR_SCENES, {"2cm_2deg": 93.1})
_HLOC_7SCENES = Published("hloc (SP+SG)", _LIMITS, (1.27, 0.27), {}, {"5cm_5deg": 95.7, "2cm_2deg": 84.5})
_DSAC_7SCENES = Published("DSAC*", _LIMITS, (1.07, 0.34), {}, {"5cm_5deg": 97.8, "2cm_2deg": 80.7})

SEVEN_SCENES_PGT = (
    Published("GSplatLoc coarse", _GSPLATLOC, (4.7, 0.94), {"redkitchen": (4.54, 0.64)}),
    Published("GSplatLoc base", _GSPLATLOC, (2.53, 0.68), {"redkitchen": (2.71, 0.55)}, {"5cm_5deg": 78.0}),
    Published("GSplatLoc fine", _GSPLATLOC, (1.40, 0.37), {"redkitchen": (1.32, 0.29)}),
    Published("GSVisLoc", _GSVISLOC, (1.3, 0.33), {"redkitchen": (0.73, 0.18)}, {"5cm_5deg": 88.0}),
    _HLOC_7SCENES,
    _DSAC_7SCENES,
    _ACE_7SCENES,
    _ACE_GSCPR_7SCENES,
    Published("STDLoc", _STDLOC, (0.67, 0.22), {"redkitchen": (0.59, 0.14)}),
)
# None whose source was at hand.
SEVEN_SCENES_ORIGINAL: tuple[Published, ...] = ()
TWELVE_SCENES_PGT: tuple[Published, ...] = ()
# Means over four landmarks, without GreatCourt.
CAMBRIDGE = (
    Published("GSplatLoc coarse", _GSPLATLOC, (29, 0.62)),
    Published("GSplatLoc base", _GSPLATLOC, (17, 0.53)),
    Published("GSplatLoc fine", _GSPLATLOC, (16, 0.48)),
    Published("GSVisLoc", _GSVISLOC, (17, 0.36)),
    Published("ACE + GS-CPR", _GSCPR, (15, 0.33)),
    Published("hloc (SP+SG)", _QUOTED, (9.5, 0.2)),
    Published("STDLoc", _STDLOC, (8.0, 0.15)),
)
GSCPR = (_HLOC_7SCENES, _DSAC_7SCENES, _ACE_7SCENES, _ACE_GSCPR_7SCENES)
REPLICA = (
    Published("GSplatLoc RGB-D (from true poses of the previous frame)", _RGBD, (0.016, 0.009)),
    Published("GS-ICP SLAM", _TRACKERS, (0.16, None)),
    Published("SplaTAM", _TRACKERS, (0.36, None)),
)
TUM = (
    Published("GSplatLoc RGB-D (from true poses of the previous frame)", _RGBD, (0.81, 0.98)),
    Published("GS-ICP SLAM", _TRACKERS, (2.4, None)),
    Published("SplaTAM", _TRACKERS, (5.48, None)),
    Published("ORB-SLAM2", _TRACKERS, (1.98, None)),
)
