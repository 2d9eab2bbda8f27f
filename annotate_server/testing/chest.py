"""A torso for CT: lungs, airways, skeleton, organs, table, and what makes real scans difficult."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Geometry, Vector
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.volume import Modality, Volume
from annotate_server.testing.shapes import (
    EVERYWHERE,
    AnyOf,
    Block,
    Canvas,
    Coordinates,
    Corners,
    Ellipsoid,
    Solid,
    Tube,
    Within,
    white_noise,
)

LEFT_LUNG, RIGHT_LUNG, AIRWAYS, BONE, BODY = 1, 2, 3, 4, 5
CHEST_SEGMENTS = (
    Segment(LEFT_LUNG, "Left lung", (224, 186, 162)),
    Segment(RIGHT_LUNG, "Right lung", (197, 165, 145)),
    Segment(AIRWAYS, "Airways", (182, 228, 255)),
    Segment(BONE, "Bone", (241, 214, 145)),
    Segment(BODY, "Body", (177, 122, 101)),
)

AIR, FAT, MUSCLE, GAS = -1000.0, -100.0, 50.0, -990.0
PLEURA = Ellipsoid((0.0, 0.0, 40.0), (132.0, 92.0, 118.0), straight_below=150.0)
BELOW_PLEURA = Block((-200.0, -200.0, -EVERYWHERE), (200.0, 200.0, -118.0))
RIB_PITCH_MM = 27.0


@dataclass(frozen=True)
class ChestOptions:
    """What a torso phantom shows; the world is LPS mm, the carina lies at z = 70, the diaphragm's top at z = -25.

    `blood_hu` is the attenuation of heart and vessels (45 without contrast). `touching_lungs` leaves a junction of
    2 mm in front of the heart. `table` and `prone` say what it lies on and which way up. `noise_hu` is a standard
    deviation. `gap_mm` between the lungs' bottom and the gas below is that of diaphragm and bowel wall.
    """

    blood_hu: float = 45.0
    noise_hu: float = 15.0
    lung_hu: float = -860.0
    table: bool = True
    prone: bool = False
    arms: bool = False
    touching_lungs: bool = False
    effusion: bool = False
    consolidation: bool = False
    nodule: bool = False
    pneumothorax: bool = False
    bowel_gas: bool = False
    stool: bool = False
    metal: bool = False
    seed: int = 1


@dataclass(frozen=True)
class Phantom:
    """A volume whose truth is known."""

    volume: Volume
    truth: Labelmap


def chest_phantom(geometry: Geometry, options: ChestOptions | None = None) -> Phantom:
    """Return a torso on a grid: HU as int16, and the structures of CHEST_SEGMENTS.

    The body of the truth is the patient, arms included, without what the other structures take.
    """
    options = options or ChestOptions()
    canvas = Canvas(geometry, AIR)
    _paint_surroundings(canvas, options)
    _paint_trunk(canvas, options)
    _paint_abdomen(canvas, options)
    _paint_lungs(canvas, options)
    _paint_heart_and_vessels(canvas, options)
    _paint_skeleton(canvas)
    _paint_airways(canvas)
    _paint_pathology(canvas, options)
    voxels, structure = canvas.finished(options.noise_hu, options.seed)
    volume = Volume(np.clip(voxels, -1024, 3071), geometry, Modality.CT, "HU")
    return Phantom(volume, Labelmap(structure, geometry, CHEST_SEGMENTS))


@dataclass(frozen=True)
class _Ribs:
    """Bands of the chest wall that go down from the spine to the front, one every RIB_PITCH_MM, or their marrow."""

    part: str

    @property
    def corners(self) -> Corners:
        return (-150.0, -110.0, -125.0), (150.0, 110.0, 172.0)

    def holds(self, at: Coordinates) -> NDArray[np.bool_]:
        marrow = self.part == "marrow"
        level = PLEURA.level(at)
        x, y, z = at
        shell = (level > 1.09) & (level < 1.20) if marrow else (level > 1.06) & (level < 1.24)
        turns = (z - 0.45 * y) / RIB_PITCH_MM
        height = turns - np.floor(turns)
        band = (height > 0.07) & (height < 0.35) if marrow else height < 0.42
        cartilage = (y < -62.0) & (np.abs(x) < 85.0)
        bone: NDArray[np.bool_] = shell & band & ~cartilage & (z > -120.0)
        return bone


@dataclass(frozen=True)
class _Column:
    """Vertebral bodies along the spine, or the discs between them, or their bony shells."""

    radius: float
    part: str

    @property
    def corners(self) -> Corners:
        return (-self.radius, 60.0 - self.radius, -EVERYWHERE), (self.radius, 60.0 + self.radius, EVERYWHERE)

    def holds(self, at: Coordinates) -> NDArray[np.bool_]:
        x, y, z = at
        away = x * x + (y - 60.0) * (y - 60.0)
        turns = z / 30.0
        height = (turns - np.floor(turns)) * 30.0
        body = (away < self.radius * self.radius) & (height > 6.0)
        if self.part == "marrow":
            inner = self.radius - 2.5
            body &= (away < inner * inner) & (height > 8.5) & (height < 27.5)
        found: NDArray[np.bool_] = (away < self.radius * self.radius) & (height <= 6.0) if self.part == "disc" else body
        return found


def _paint_surroundings(canvas: Canvas, options: ChestOptions) -> None:
    """Paint a table with foam, a mattress with a cover, and a blanket; under the patient, whichever way up."""
    if not options.table:
        return
    side = -1.0 if options.prone else 1.0

    def layer(near: float, far: float, half_width: float) -> Block:
        low, high = sorted((side * near, side * far))
        return Block((-half_width, low, -EVERYWHERE), (half_width, high, EVERYWHERE))

    canvas.paint(layer(119.0, 133.0, 190.0), -830.0)
    canvas.paint(layer(133.0, 134.5, 190.0), -250.0)
    canvas.paint(layer(137.0, 139.0, 230.0), 80.0)
    canvas.paint(layer(139.0, 165.0, 230.0), -930.0)
    canvas.paint(layer(165.0, 167.0, 230.0), 80.0)
    over = _torso(1.055)
    blanket = Within(over, (layer(-200.0, 40.0, EVERYWHERE),), (_torso(1.03),))
    canvas.paint(blanket, -640.0)


def _torso(scale: float) -> Solid:
    trunk = Ellipsoid((0.0, 0.0, 120.0), (172.0 * scale, 119.0 * scale, 85.0 * scale), straight_below=EVERYWHERE)
    neck = Tube((0.0, 40.0, 120.0), (0.0, 40.0, EVERYWHERE), 66.0 * scale)
    shoulders = tuple(Ellipsoid((x, 15.0, 130.0), (70.0 * scale, 62.0 * scale, 60.0 * scale)) for x in (-125.0, 125.0))
    return AnyOf((trunk, neck, *shoulders))


def _paint_trunk(canvas: Canvas, options: ChestOptions) -> None:
    """Paint skin, fat and muscle, and the arms beside the body with a thin gap of air."""
    canvas.paint(_torso(1.0), MUSCLE, BODY)
    canvas.paint(_torso(0.985), FAT)
    canvas.paint(_torso(0.9), MUSCLE)
    if options.arms:
        for x in (-218.0, 218.0):
            canvas.paint(Tube((x, 10.0, 140.0), (x, 15.0, -EVERYWHERE), 41.0), MUSCLE, BODY)
            canvas.paint(Tube((x, 10.0, 140.0), (x, 15.0, -EVERYWHERE), 12.0), 800.0, BONE)
            canvas.paint(Tube((x, 10.0, 140.0), (x, 15.0, -EVERYWHERE), 6.0), -40.0)


def _dome(side: float, margin: float) -> Ellipsoid:
    """Return the abdomen below one half of the diaphragm, grown by a margin."""
    x, top, radius = (-68.0, -25.0, 66.0) if side < 0 else (72.0, -42.0, 60.0)
    return Ellipsoid((x, 0.0, top - 70.0), (radius + margin, 84.0 + margin, 70.0 + margin), straight_below=EVERYWHERE)


def _paint_abdomen(canvas: Canvas, options: ChestOptions) -> None:
    """Paint what lies below the diaphragm; gas and stool only where they are asked for."""
    contrast = (options.blood_hu - 45.0) * 0.3
    canvas.paint(Within(PLEURA, but_not=(BELOW_PLEURA,)), -60.0)
    canvas.paint(Ellipsoid((0.0, 0.0, -118.0), (128.0, 90.0, 1.0), straight_below=EVERYWHERE), FAT + 10.0)
    for side in (-1.0, 1.0):
        canvas.paint(_dome(side, 4.0), MUSCLE)
        canvas.paint(_dome(side, 0.0), FAT + 10.0)
    liver = Within(_dome(-1.0, -3.0), (Block((-200.0, -200.0, -170.0), (200.0, 200.0, 200.0)),))
    canvas.paint(liver, 60.0 + contrast)
    canvas.paint(Ellipsoid((88.0, 40.0, -95.0), (32.0, 38.0, 45.0)), 50.0 + contrast)
    for x in (-62.0, 62.0):
        canvas.paint(Ellipsoid((x, 48.0, -175.0), (27.0, 25.0, 48.0)), 35.0 + 2.5 * contrast)
    stomach = Ellipsoid((68.0, -30.0, -85.0), (42.0, 38.0, 36.0))
    canvas.paint(stomach, 20.0)
    if options.bowel_gas:
        canvas.paint(Within(stomach, (Block((0, -200, -400), (200, -28, 400)),)), GAS)
        canvas.paint(Ellipsoid((100.0, 8.0, -80.0), (21.0, 20.0, 27.0)), GAS)
        for x, z in ((-40.0, -195.0), (0.0, -205.0), (45.0, -190.0)):
            canvas.paint(Ellipsoid((x, -55.0, z), (24.0, 20.0, 17.0)), GAS)
    if options.stool:
        _paint_stool(canvas, Tube((92.0, 22.0, -78.0), (104.0, 20.0, -400.0), 16.0), options.seed)


def _paint_stool(canvas: Canvas, bowel: Solid, seed: int) -> None:
    """Fill a bowel with stool: bubbles of gas, so that its mean lies where that of lung does."""
    box = canvas.region(bowel)
    inside = np.broadcast_to(bowel.holds(canvas.coordinates(box)), box.shape)
    canvas.intensity[box.slices][inside] = (-450.0 + white_noise(box.shape, 330.0, seed + 7))[inside]


def _thorax(options: ChestOptions) -> tuple[Solid, ...]:
    """Return what is no lung within the pleura: both halves of the diaphragm, mediastinum and spine."""
    front = 1.0 if options.touching_lungs else 7.0
    return (
        _dome(-1.0, 4.0),
        _dome(1.0, 4.0),
        BELOW_PLEURA,
        Block((-front, -200.0, -400.0), (front, -40.0, 400.0)),
        Block((-24.0, -45.0, -400.0), (24.0, 200.0, 400.0)),
        Ellipsoid((0.0, 62.0, 0.0), (30.0, 42.0, 60.0), straight_below=EVERYWHERE, straight_above=EVERYWHERE),
        Ellipsoid((22.0, -32.0, -5.0), (58.0, 46.0, 66.0), straight_below=200.0),
    )


def _lung(side: float, options: ChestOptions) -> Within:
    half = Block((0.0, -200.0, -400.0), (200.0, 200.0, 400.0)) if side > 0 else Block((-200, -200, -400), (0, 200, 400))
    return Within(PLEURA, (half,), _thorax(options))


def _paint_lungs(canvas: Canvas, options: ChestOptions) -> None:
    """Paint parenchyma that is denser where the patient lies on it, and its vessels."""
    for side, structure in ((1.0, LEFT_LUNG), (-1.0, RIGHT_LUNG)):
        lung = _lung(side, options)
        canvas.paint(lung, options.lung_hu, structure)
        _grade(canvas, lung, options)
        for vessel in _vessels(side, options.seed):
            canvas.paint(Within(vessel, (lung,)), options.blood_hu)


def _grade(canvas: Canvas, lung: Solid, options: ChestOptions) -> None:
    box = canvas.region(lung)
    at = canvas.coordinates(box)
    inside = np.broadcast_to(lung.holds(at), box.shape)
    down = -1.0 if options.prone else 1.0
    texture = white_noise(box.shape, 60.0, options.seed + 3)
    graded = options.lung_hu + 0.55 * down * at[1] + texture
    canvas.intensity[box.slices][inside] = np.broadcast_to(graded, box.shape)[inside]


def _vessels(side: float, seed: int) -> list[Tube]:
    """Return rods from the hilum outwards, each with two branches, thinner towards the pleura."""
    words = np.random.PCG64(seed + (11 if side > 0 else 13)).random_raw(240)
    unit = [float(word >> 40) / float(1 << 24) for word in words]
    hilum = (side * 30.0, 12.0, 45.0)
    rods = []
    for n in range(26):
        a, b, c, d, e, f, *_ = unit[9 * n : 9 * n + 9]
        end = (side * (45.0 + 80.0 * a), -75.0 + 150.0 * b, -95.0 + 230.0 * c)
        middle = _between(hilum, end, 0.55)
        rods.append(Tube(hilum, middle, 5.5, 3.0))
        rods.append(Tube(middle, end, 3.0, 1.2))
        rods.append(Tube(middle, (end[0], end[1] + 60.0 * (d - 0.5), end[2] + 60.0 * (e - 0.5)), 2.4, 0.8 + 0.4 * f))
    return rods


def _between(a: Vector, b: Vector, part: float) -> Vector:
    x, y, z = (p + part * (q - p) for p, q in zip(a, b, strict=True))
    return x, y, z


def _paint_heart_and_vessels(canvas: Canvas, options: ChestOptions) -> None:
    """Paint heart, aorta, caval veins, pulmonary trunk and oesophagus."""
    blood = options.blood_hu
    fat = Ellipsoid((22.0, -32.0, -5.0), (55.0, 43.0, 63.0))
    canvas.paint(fat, FAT)
    canvas.paint(Ellipsoid((22.0, -32.0, -8.0), (50.0, 39.0, 56.0)), blood)
    aorta = AnyOf(
        (
            Tube((14.0, 36.0, -EVERYWHERE), (14.0, 36.0, 95.0), 11.5),
            Tube((14.0, 36.0, 95.0), (8.0, -12.0, 100.0), 12.5),
            Tube((8.0, -12.0, 100.0), (2.0, -18.0, 40.0), 14.0),
        )
    )
    canvas.paint(aorta, blood)
    canvas.paint(Tube((-18.0, -14.0, 140.0), (-16.0, -16.0, 20.0), 8.5), blood)
    canvas.paint(Tube((6.0, -22.0, 55.0), (18.0, -16.0, 52.0), 12.0), blood)
    canvas.paint(Tube((-20.0, 20.0, -30.0), (-18.0, 28.0, -EVERYWHERE), 11.0), blood)
    canvas.paint(Tube((4.0, 33.0, -90.0), (2.0, 30.0, 230.0), 7.0), 35.0)
    canvas.paint(Tube((4.0, 33.0, 20.0), (4.0, 33.0, 34.0), 2.5), -700.0)


def _paint_skeleton(canvas: Canvas) -> None:
    """Paint ribs, sternum, collarbones, shoulder blades and the spine with its canal."""
    canvas.paint(_Ribs("cortex"), 430.0, BONE)
    canvas.paint(_Ribs("marrow"), 160.0)
    sternum = Block((-17.0, -106.0, 10.0), (17.0, -96.0, 130.0))
    canvas.paint(sternum, 500.0, BONE)
    canvas.paint(Block((-15.0, -104.0, 12.0), (15.0, -98.0, 128.0)), 130.0)
    for side in (-1.0, 1.0):
        for radius, hu in ((7.0, 450.0), (4.5, 150.0)):
            canvas.paint(Tube((side * 12.0, -80.0, 140.0), (side * 120.0, -20.0, 165.0), radius), hu, BONE)
        blade = Ellipsoid((side * 112.0, 72.0, 90.0), (30.0, 2.2, 62.0))
        canvas.paint(Within(blade, (_torso(0.9),), (PLEURA,)), 450.0, BONE)
    canvas.paint(_Column(18.0, "disc"), 80.0, BODY)
    canvas.paint(_Column(18.0, "body"), 420.0, BONE)
    canvas.paint(_Column(18.0, "marrow"), 170.0)
    arch = Tube((0.0, 86.0, -EVERYWHERE), (0.0, 86.0, EVERYWHERE), 13.0)
    canvas.paint(arch, 420.0, BONE)
    canvas.paint(Tube((0.0, 86.0, -EVERYWHERE), (0.0, 86.0, EVERYWHERE), 9.5), 25.0, BODY)


def _paint_airways(canvas: Canvas) -> None:
    """Paint trachea, main bronchi and one bronchus further, each with its wall; the last stays part of the lung."""
    carina = (0.0, 12.0, 70.0)
    ends = ((36.0, 17.0, 42.0), (-33.0, 17.0, 46.0))
    trunks = [Tube((0.0, 6.0, 232.0), carina, 9.0), *(Tube(carina, end, 6.8, 6.0) for end in ends)]
    further = [Tube(end, (end[0] * 2.1, end[1] + 12.0, end[2] - 62.0), 4.2, 2.6) for end in ends]
    for tube in (*trunks, *further):
        canvas.paint(Tube(tube.start, tube.end, tube.radius + 1.5, (tube.end_radius or tube.radius) + 1.2), 20.0)
    for tube in further:
        canvas.paint(tube, AIR)
    for tube in trunks:
        canvas.paint(Tube(tube.start, tube.end, tube.radius + 1.5, (tube.end_radius or tube.radius) + 1.5), None, BODY)
    for tube in trunks:
        canvas.paint(tube, AIR, AIRWAYS)


def _paint_pathology(canvas: Canvas, options: ChestOptions) -> None:
    """Paint what disease adds; the truth follows what a reader would call lung."""
    right, left = _lung(-1.0, options), _lung(1.0, options)
    if options.effusion:
        level = -30.0 if options.prone else 30.0
        low, high = (-200.0, level) if options.prone else (level, 200.0)
        pool = Block((-200.0, low, -400.0), (0.0, high, 20.0))
        canvas.paint(Within(right, (pool,)), 12.0, BODY)
    if options.consolidation:
        canvas.paint(Within(left, (Ellipsoid((128.0, 15.0, 40.0), (24.0, 34.0, 40.0)),)), 35.0)
    if options.nodule:
        canvas.paint(Within(right, (Ellipsoid((-122.0, -5.0, 60.0), (14.0, 14.0, 14.0)),)), 40.0)
        canvas.paint(Within(right, (Ellipsoid((-70.0, -20.0, 90.0), (11.0, 11.0, 11.0)),)), 40.0)
    if options.pneumothorax:
        front = Block((30.0, -200.0, 20.0), (200.0, -50.0, 400.0))
        canvas.paint(Within(left, (front,)), AIR)
    if options.metal:
        canvas.paint(Ellipsoid((85.0, -100.0, 100.0), (18.0, 5.0, 18.0)), 3000.0, BODY)
