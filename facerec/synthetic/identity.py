"""The traits of a synthetic identity and the circumstances of one sample, as plain numbers.

Lengths are in head units: 1 is half the width of an average head, about 70 mm. The head's frame has its origin
between the ears at the height of the eyes; x points to the image's right, y down, z towards the viewer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

Colour = tuple[float, float, float]
T = TypeVar("T")

# From fair to dark; an identity is between two neighbours.
_SKIN_TONES = ((246, 212, 190), (233, 186, 156), (208, 155, 122), (168, 116, 84), (124, 80, 58), (92, 60, 46))
_DARK_HAIR = ((30, 26, 26), (44, 32, 27), (66, 45, 33))
_HAIR_COLOURS = (*_DARK_HAIR, (96, 66, 45), (134, 96, 62), (190, 152, 98), (146, 74, 42), (150, 147, 145))
_GREY_HAIR = (152, 148, 146)
_BROWN_EYES = ((62, 38, 24), (92, 60, 34))
_EYE_COLOURS = (*_BROWN_EYES, (124, 92, 50), (96, 112, 70), (84, 120, 140), (108, 130, 152), (120, 126, 130))
_LIPSTICKS = ((178, 36, 52), (196, 70, 92), (142, 40, 62), (206, 104, 96))

_HAIR_STYLES = ("bald", "buzz", "short", "swept", "fringe", "bob", "long", "curly", "bun")
_VARIED_STYLES = _HAIR_STYLES[2:]  # styles that a person may wear for a day
_HATS = ("beanie", "cap", "headband")
_BACKDROPS = ("soft", "blocks", "lights", "stripes")


class Dice:
    """Random numbers as a pure function of (seed, identity, sample); a Philox counter separates the streams.

    Args:
        seed: chooses the whole data set.
        identity: the identity's number.
        sample: the sample's number, or -1 for the traits of the identity itself.
    """

    def __init__(self, *, seed: int, identity: int, sample: int) -> None:
        philox = np.random.Philox(key=[seed, 0x5FACE], counter=[0, 0, identity, sample + 1])
        values = np.random.Generator(philox).random(512)
        self._next = iter(values[:384].tolist()).__next__
        self.texture = values[384:]

    def uniform(self, low: float, high: float) -> float:
        """Returns a uniform number in [low, high)."""
        return low + (high - low) * self._next()

    def bell(self, sigma: float) -> float:
        """Returns a bell-shaped number around 0 with standard deviation `sigma`, never beyond 3 sigma."""
        value = self._next
        return 2 * sigma * (value() + value() + value() - 1.5)

    def chance(self, probability: float) -> bool:
        """Returns True with this probability."""
        return self._next() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """Returns one of the choices, all equally likely."""
        return choices[int(self._next() * len(choices))]


def mix(first: Sequence[float], second: Sequence[float], share: float) -> Colour:
    """Returns the colour at `share` of the way from `first` to `second`."""
    rest = 1 - share
    return (
        first[0] * rest + second[0] * share,
        first[1] * rest + second[1] * share,
        first[2] * rest + second[2] * share,
    )


def scaled(colour: Sequence[float], factor: float) -> Colour:
    """Returns the colour made brighter or darker."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _trait(low: float, high: float) -> Any:
    return field(metadata={"range": (low, high)})


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The traits of a person: geometry first, because colours are weak evidence in changing light."""

    # Head outline, half widths at their heights.
    crown_y: float = _trait(-1.68, -1.42)
    temple_width: float = _trait(0.93, 1.09)
    cheek_width: float = _trait(0.90, 1.06)
    jaw_width: float = _trait(0.58, 0.88)
    jaw_y: float = _trait(0.98, 1.22)
    chin_width: float = _trait(0.20, 0.46)
    chin_y: float = _trait(1.42, 1.78)
    chin_depth: float = _trait(-0.08, 0.16)
    neck_width: float = _trait(0.50, 0.74)
    # Relief.
    brow_ridge: float = _trait(0.0, 0.10)
    cheekbone: float = _trait(0.0, 0.12)
    socket_depth: float = _trait(0.04, 0.16)
    fold_depth: float = _trait(0.0, 0.06)
    # Eyes; heights are those of the open eye.
    eye_spacing: float = _trait(0.385, 0.525)
    eye_y: float = _trait(-0.03, 0.03)
    eye_width: float = _trait(0.155, 0.255)
    eye_height: float = _trait(0.072, 0.128)
    eye_tilt: float = _trait(-0.030, 0.045)
    eye_peak: float = _trait(-0.35, 0.35)
    iris_radius: float = _trait(0.080, 0.104)
    crease: float = _trait(-0.02, 0.085)
    lash: float = _trait(0.010, 0.040)
    eye_bag: float = _trait(-0.5, 1.0)
    # Brows.
    brow_y: float = _trait(0.19, 0.40)
    brow_length: float = _trait(0.22, 0.36)
    brow_thickness: float = _trait(0.022, 0.075)
    brow_arch: float = _trait(-0.01, 0.11)
    brow_tilt: float = _trait(-0.09, 0.06)
    brow_gap: float = _trait(-0.05, 0.07)
    # Nose.
    nose_length: float = _trait(0.44, 0.66)
    nose_width: float = _trait(0.15, 0.31)
    nose_height: float = _trait(0.26, 0.52)
    nose_bridge: float = _trait(0.05, 0.22)
    nose_bridge_width: float = _trait(0.07, 0.15)
    nose_tip: float = _trait(0.08, 0.17)
    nose_hump: float = _trait(-0.06, 0.08)
    nostril: float = _trait(0.026, 0.056)
    # Mouth.
    mouth_y: float = _trait(0.86, 1.10)
    mouth_width: float = _trait(0.25, 0.43)
    upper_lip: float = _trait(0.030, 0.115)
    lower_lip: float = _trait(0.045, 0.145)
    cupid: float = _trait(0.0, 0.045)
    mouth_corner: float = _trait(-0.04, 0.04)
    # Ears.
    ear_height: float = _trait(0.50, 0.78)
    ear_y: float = _trait(-0.16, 0.10)
    ear_angle: float = _trait(0.10, 0.36)
    # Hairline.
    hairline_y: float = _trait(-1.05, -0.68)
    hairline_peak: float = _trait(-0.08, 0.14)
    hairline_corner: float = _trait(-0.05, 0.22)
    # Small asymmetries, as in many faces.
    nose_skew: float = _trait(-0.03, 0.03)
    mouth_skew: float = _trait(-0.03, 0.03)
    brow_skew: float = _trait(-0.025, 0.025)
    # Marks on the face, as seen from the front.
    age: float = _trait(0.0, 1.0)
    blush: float = _trait(0.1, 1.0)
    moles: np.ndarray  # (N, 3), x, y and radius
    freckles: np.ndarray  # (N, 3), x, y and radius
    scar: np.ndarray  # (2, 2), both ends, or (0, 2)
    # Colours and tendencies; a sample may differ from the tendencies.
    skin: Colour
    hair: Colour
    eyes: Colour
    hair_style: str
    beard: float
    glasses: bool

    @classmethod
    def draw(cls, *, seed: int, identity: int) -> "Identity":
        """Returns the identity with this number."""
        dice = Dice(seed=seed, identity=identity, sample=-1)
        ranges = [(item.name, item.metadata["range"]) for item in fields(cls) if "range" in item.metadata]
        traits: dict[str, Any] = {name: dice.uniform(low, high) for name, (low, high) in ranges}
        melanin = dice.uniform(0, 1) ** 1.3 * (len(_SKIN_TONES) - 1.001)
        tone = int(melanin)
        skin = mix(_SKIN_TONES[tone], _SKIN_TONES[tone + 1], melanin - tone)
        skin = (skin[0], skin[1] * dice.uniform(0.95, 1.03), skin[2] * dice.uniform(0.90, 1.05))
        darkest = dice.chance(min(1.0, 0.25 + 0.25 * melanin))
        hair = dice.pick(_DARK_HAIR if darkest else _HAIR_COLOURS)
        eyes = dice.pick(_BROWN_EYES if melanin > 2.2 else _EYE_COLOURS)
        spots = [(dice.uniform(-0.8, 0.8), dice.uniform(-0.6, 1.4), dice.uniform(0.015, 0.030)) for _ in range(3)]
        moles = np.array(spots[: int(dice.uniform(0, 3.6))]).reshape(-1, 3)
        num_freckles = int(dice.uniform(14, 30)) if dice.chance(0.22) and melanin < 2.5 else 0
        freckles = [
            (dice.pick((-0.42, 0.42)) + dice.bell(0.2), 0.36 + dice.bell(0.10), dice.uniform(0.010, 0.017))
            for _ in range(num_freckles)
        ]
        scar_start = np.array([dice.uniform(-0.7, 0.7), dice.uniform(-0.6, 1.3)])
        scar_end = scar_start + [dice.uniform(-0.18, 0.18), dice.uniform(0.1, 0.3)]
        return cls(
            **traits,
            moles=moles,
            freckles=np.array(freckles).reshape(-1, 3),
            scar=np.stack([scar_start, scar_end]) if dice.chance(0.12) else np.zeros((0, 2)),
            skin=skin,
            hair=mix(hair, _GREY_HAIR, max(0.0, traits["age"] - 0.75) * dice.uniform(0, 3)),
            eyes=eyes,
            hair_style=dice.pick(_HAIR_STYLES),
            beard=dice.uniform(0.3, 1.0) if dice.chance(0.3) else 0.0,
            glasses=dice.chance(0.2),
        )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The values that change between photos of one person. Angles in radians, colours relative to white."""

    yaw: float  # positive turns the nose to the image's right
    pitch: float  # positive looks down
    roll: float  # positive tilts the head clockwise
    scale_px: float  # pixels per head unit
    shift: tuple[float, float]  # head units, position of the face in the photo
    light: np.ndarray  # (3,), unit vector towards the light, in the view frame
    light_colour: np.ndarray  # (3,), red, green, blue
    ambient_colour: np.ndarray  # (3,)
    shine: float  # strength of highlights on the skin
    smile: float  # 0 none, 1 broad
    mouth_open: float  # 0 closed, 1 wide open
    brow_raise: float  # 0 as usual
    eyelid: float  # 0 as usual, -1 closed
    gaze_x: float  # 0 straight ahead
    gaze_y: float
    hair_style: str
    hair_volume: float  # 1 as usual
    hair_part: float  # 0 on the left, 1 on the right
    hair_length: float  # length of the fringe, 0 to 1
    hair_colour: Colour
    beard: float  # 0 shaved, 1 full
    lip_colour: Colour | None
    glasses: str  # none, round, square or sun
    hat: str  # none, beanie, cap or headband
    cloth_colour: Colour
    backdrop: str
    contrast: float
    saturation: float
    white_balance: tuple[float, float]  # error of red and blue
    exposure: float
    blur_px: float  # standard deviation; 0 is sharp
    noise: float  # 0 to 1
    jpeg_quality: int
    jitter_px: np.ndarray  # (5, 2), the landmark detector's error
    texture: np.ndarray  # (128,), uniform in [0, 1): the small irregularities of hair, background and noise

    @classmethod
    def draw(cls, *, seed: int, identity: int, sample: int, person: Identity) -> "Sample":
        """Returns the sample with this number of the identity with this number; `person` has the identity's traits."""
        dice = Dice(seed=seed, identity=identity, sample=sample)
        light, light_colour, ambient_colour = _draw_light(dice)
        beard = 0.0
        if person.beard:
            beard = person.beard * dice.uniform(0.5, 1.0) if dice.chance(0.75) else dice.uniform(0, 0.25)
        glasses = "none"
        if dice.chance(0.5 if person.glasses else 0.25):
            glasses = "sun" if dice.chance(0.15) else dice.pick(("round", "square"))
        dye = dice.uniform(0.5, 1.0) if dice.chance(0.2) else 0.0
        return cls(
            yaw=dice.bell(0.31),
            pitch=dice.bell(0.17),
            roll=dice.bell(0.16),
            scale_px=dice.uniform(34, 42),
            shift=(dice.bell(0.12), dice.bell(0.1)),
            light=light,
            light_colour=light_colour,
            ambient_colour=ambient_colour,
            shine=dice.uniform(0, 0.35),
            smile=max(0.0, dice.uniform(-0.6, 1.2)),
            mouth_open=max(0.0, dice.uniform(-1.2, 1.2)),
            brow_raise=dice.bell(0.6),
            eyelid=dice.uniform(-0.45, 0.12),
            gaze_x=dice.bell(0.35),
            gaze_y=dice.bell(0.3),
            hair_style=person.hair_style if dice.chance(0.3) else dice.pick(_VARIED_STYLES),
            hair_volume=dice.uniform(0.6, 1.5),
            hair_part=dice.uniform(-0.1, 1.1),
            hair_length=dice.uniform(0, 1),
            hair_colour=mix(person.hair, dice.pick(_HAIR_COLOURS), dye),
            beard=beard,
            lip_colour=dice.pick(_LIPSTICKS) if not beard and dice.chance(0.2) else None,
            glasses=glasses,
            hat=dice.pick(_HATS) if dice.chance(0.25) else "none",
            cloth_colour=(dice.uniform(20, 235), dice.uniform(20, 235), dice.uniform(20, 235)),
            backdrop=dice.pick(_BACKDROPS),
            contrast=dice.uniform(0.82, 1.15),
            saturation=dice.uniform(0.7, 1.25),
            white_balance=(dice.bell(0.06), dice.bell(0.06)),
            exposure=dice.uniform(0.8, 1.18),
            blur_px=dice.uniform(0.4, 1.0) if dice.chance(0.35) else 0.0,
            noise=dice.uniform(0, 1),
            jpeg_quality=int(dice.uniform(45, 96)),
            jitter_px=np.array([[dice.bell(0.95), dice.bell(0.95)] for _ in range(5)]),
            texture=dice.texture,
        )


def _draw_light(dice: Dice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns direction and colour of the light, and the colour of the ambient light: (3,) each."""
    azimuth, elevation = dice.uniform(-1.3, 1.3), dice.uniform(-0.25, 1.1)
    strength, warmth, ambient_warmth = dice.uniform(0.4, 1.3), dice.bell(0.13), dice.bell(0.09)
    flat = math.cos(elevation)
    direction = np.array([math.sin(azimuth) * flat, -math.sin(elevation), math.cos(azimuth) * flat])
    colour = strength * np.array([1.04 + warmth, 1 + dice.bell(0.05), 0.96 - warmth])
    ambient = (0.95 - 0.55 * strength) * np.array([1 + ambient_warmth, 1.0, 1 - ambient_warmth])
    return direction, colour, ambient
