"""Two scans of bodies that differ by a known, random, smooth and invertible deformation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import identity_positions, sample
from anamorph.image.image import Image, Labels
from anamorph.image.points import Points
from anamorph.phantom.anatomy import Anatomy, random_abdomen
from anamorph.phantom.shapes import AT_ONCE, Scene, build_scene, render, rotation
from anamorph.runtime.threads import over_slabs
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform

BODIES = {"abdomen": random_abdomen}
FIELD_OF_VIEW_MM = (380.0, 300.0, 340.0)
LOWEST_HU, HIGHEST_HU = -1024, 3071
_POINT_TOLERANCE_MM = 1e-4  # about the rounding of float32 voxel coordinates


@dataclass(frozen=True)
class PhantomPair:
    """Two scans with everything a registration could be judged by.

    ``true_fixed_to_moving`` is exact: the fixed scan is the anatomy of the moving one read at ``phi(x)``. Landmarks
    outside either field of view are left out.
    """

    fixed: Image
    moving: Image
    fixed_labels: Labels
    moving_labels: Labels
    fixed_points: Points
    moving_points: Points
    true_fixed_to_moving: Transform


def make_pair(
    shape: Sequence[int] = (128, 104, 112),
    spacing_mm: float | Sequence[float] | None = None,
    seed: int = 0,
    body: str = "abdomen",
    *,
    fixed_grid: Grid | None = None,
    moving_grid: Grid | None = None,
    deformation_mm: float = 15.0,
    translation_mm: float = 20.0,
    rotation_deg: float = 5.0,
    scale: float = 0.08,
    noise_hu: float = 12.0,
    alter: Callable[[Transform], Transform] | None = None,
) -> PhantomPair:
    """Make two CT-like scans (int16, HU) of one random anatomy, one of them deformed by a known diffeomorphism.

    Both scans read the same continuous anatomy, so neither is resampled; partial volume is a matter of the voxel size
    and noise is drawn for each. The middle of the body is the origin of the world. The same arguments give the same
    bits; the anatomy and the deformation depend on the seed alone, not on the grids. A shape with one voxel along the
    third axis is an axial slice, and the deformation stays in its plane.

    Args:
        shape: ``(I, J, K)`` of both scans, axes LPS, centred on the body.
        spacing_mm: one number or one per axis; by default the body's 380 x 300 x 340 mm fill the shape.
        seed: any whole number >= 0.
        body: ``"abdomen"``.
        fixed_grid: grid of the fixed scan instead of ``shape`` and ``spacing_mm``.
        moving_grid: grid of the moving scan instead of ``shape`` and ``spacing_mm``.
        deformation_mm: largest length of the non-linear part.
        translation_mm: limit of the shift along each axis.
        rotation_deg: limit of the rotation about each axis.
        scale: limit of the relative change of size along each axis.
        noise_hu: standard deviation of the noise.
        alter: makes another map of the random one, by which the scans differ instead.

    Raises:
        UserError: the body, the seed, a size or a limit is out of range, or one grid is a slice and the other is not.
    """
    _check(body, seed, [deformation_mm, translation_mm, rotation_deg, scale, noise_hu], scale)
    fixed_grid = fixed_grid or _centred_grid(shape, spacing_mm)
    moving_grid = moving_grid or _centred_grid(shape, spacing_mm)
    planar = fixed_grid.is_2d
    if planar != moving_grid.is_2d:
        raise UserError("one grid is a single slice and the other is not; give both the same number of dimensions")
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]
    anatomy = BODIES[body](streams[0])
    transform: Transform = Composite.of(
        random_affine(streams[1], translation_mm, rotation_deg, scale, planar),
        random_diffeomorphism(streams[2], deformation_mm, planar),
    )
    if alter is not None:
        transform = alter(transform)
    width_mm = max(_voxel_mm(fixed_grid), _voxel_mm(moving_grid))
    scene = build_scene(anatomy.organs, streams[3], width_mm)
    fixed, fixed_labels = render_scan(anatomy, scene, transform, fixed_grid, noise_hu, streams[4], "phantom fixed")
    moving, moving_labels = render_scan(anatomy, scene, None, moving_grid, noise_hu, streams[5], "phantom moving")
    fixed_points, moving_points = _visible_landmarks(anatomy.landmarks, transform, fixed_grid, moving_grid)
    return PhantomPair(fixed, moving, fixed_labels, moving_labels, fixed_points, moving_points, transform)


def _check(body: str, seed: int, limits: list[float], scale: float) -> None:
    if body not in BODIES:
        raise UserError(f"there is no phantom of a {body!r}; choose from {', '.join(BODIES)}")
    if seed < 0:
        raise UserError(f"the seed must be a whole number >= 0, not {seed}")
    if not np.isfinite(limits).all() or min(limits) < 0 or scale >= 0.5:
        raise UserError("deformation, shift, rotation, scale and noise must be >= 0, and the scale below 0.5")


def _centred_grid(shape: Sequence[int], spacing_mm: float | Sequence[float] | None) -> Grid:
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"the shape of a phantom has three axes of at least one voxel, not {tuple(shape)}")
    if spacing_mm is None:
        spacing = np.array(FIELD_OF_VIEW_MM) / np.array(shape)
        if shape[2] == 1:
            spacing[2] = spacing[:2].mean()
    else:
        spacing = np.broadcast_to(np.asarray(spacing_mm, np.float64), 3)
    if not np.isfinite(spacing).all() or spacing.min() <= 0:
        raise UserError(f"the spacing must be positive millimetres, not {spacing_mm}")
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _voxel_mm(grid: Grid) -> float:
    """Edge of the cube with a voxel's volume: over this distance a surface is blurred."""
    return float(np.cbrt(np.prod(grid.spacing_mm)))


def render_scan(
    anatomy: Anatomy,
    scene: Scene,
    transform: Transform | None,
    grid: Grid,
    noise_hu: float,
    rng: np.random.Generator,
    name: str,
) -> tuple[Image, Labels]:
    """A CT of the anatomy as it lies where the transform sends the voxels of the grid, and its labels."""
    positions = identity_positions(grid.shape) if transform is None else transform.positions_on(grid)
    hu = np.empty(int(np.prod(grid.shape)), np.float32)
    labels = np.empty(hu.shape, np.uint8)
    width = _voxel_mm(grid)
    matrix = grid.affine[:3].astype(np.float32)
    given = positions.reshape(3, -1), matrix, anatomy.torso, scene, width
    over_slabs(render, len(hu), *given, hu, labels, least=AT_ONCE)
    hu += np.float32(noise_hu) * rng.standard_normal(hu.shape, np.float32)
    values = np.clip(np.rint(hu, out=hu), LOWEST_HU, HIGHEST_HU).astype(np.int16)
    return Image(values.reshape(grid.shape), grid, name), Labels(labels.reshape(grid.shape), grid, f"{name} labels")


def _visible_landmarks(
    landmarks: Points, transform: Transform, fixed_grid: Grid, moving_grid: Grid
) -> tuple[Points, Points]:
    """Landmarks of the moving scan and, by Newton's method on the exact transform, of the fixed scan."""
    names, moving = np.array(landmarks.labels), landmarks.positions_mm
    if moving_grid.is_2d:
        # Those near the slice, dropped onto it.
        depth = moving_grid.world_to_voxel(moving)
        near = np.abs(depth[:, 2]) * moving_grid.spacing_mm[2] < 20
        depth[:, 2] = 0
        names, moving = names[near], moving_grid.voxel_to_world(depth[near])
    fixed = inverse_points(transform, moving)
    seen = moving_grid.contains(moving) & fixed_grid.contains(fixed)
    labels = tuple(str(name) for name in names[seen])
    return Points(fixed[seen], labels), Points(moving[seen], labels)


def inverse_points(transform: Transform, targets_mm: np.ndarray) -> np.ndarray:
    """Points that a transform sends to the targets, by Newton's method with derivatives from differences over 1 mm."""
    points = targets_mm.copy()
    steps = np.vstack([np.zeros(3), np.eye(3), -np.eye(3)])[:, None] / 2
    for _ in range(30):
        mapped = transform.map_world((points + steps).reshape(-1, 3)).reshape(7, -1, 3)
        missing = targets_mm - mapped[0]
        if np.abs(missing).max(initial=0) < _POINT_TOLERANCE_MM:
            break
        slopes = np.moveaxis(mapped[1:4] - mapped[4:], 0, -1)
        points += np.linalg.solve(slopes, missing[..., None])[..., 0]
    return points


LATTICE_MM = 6.0
HALF_EXTENT_MM = (240.0, 204.0, 300.0)  # around the body; further out the displacement stays as at the border
SMOOTHNESS_MM = 30.0
MIN_DETERMINANT = 0.25
SQUARINGS = 6


def random_affine(
    rng: np.random.Generator, translation_mm: float, rotation_deg: float, scale: float, planar: bool
) -> Affine:
    """Scalings, rotations and shifts drawn uniformly within plus or minus the limits, about the origin.

    Args:
        rng: source of the draws.
        translation_mm: limit along each axis.
        rotation_deg: limit about each axis.
        scale: limit of the relative change of length along each axis.
        planar: leave the third axis alone.
    """
    # All draws come first, so that a planar map is the same map with its third axis taken out.
    shift, turn, stretch = rng.uniform(-1, 1, (3, 3)) * np.array([[translation_mm], [rotation_deg], [scale]])
    if planar:
        shift[2] = turn[0] = turn[1] = stretch[2] = 0
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((turn[0], turn[1], turn[2])) @ np.diag(1 + stretch)
    matrix[:3, 3] = shift
    return Affine(matrix)


def random_diffeomorphism(rng: np.random.Generator, amplitude_mm: float, planar: bool) -> Displacement:
    """The exponential of a smooth random velocity, on a lattice of its own around the origin.

    The trilinear field on the lattice *is* the deformation, not an approximation, so that the images, the
    landmarks and the transform agree to the rounding of float32. The velocity is white noise smoothed by a Gaussian of
    ``SMOOTHNESS_MM``, integrated by scaling and squaring (Arsigny et al. 2006); it is weakened where needed until the
    smallest determinant of the Jacobian exceeds ``MIN_DETERMINANT``.

    Args:
        rng: source of the noise.
        amplitude_mm: length of the largest velocity, which the largest displacement hardly ever exceeds.
        planar: a field of the x-y plane that does not vary along z.
    """
    lattice = _lattice(planar)
    velocity = _smooth_noise(rng, lattice, planar) * np.float32(amplitude_mm / LATTICE_MM)
    while True:
        field = Displacement(_exponential(velocity), lattice)
        if field.jacobian_determinant().min() > MIN_DETERMINANT:
            return field
        velocity *= np.float32(0.9)


def _lattice(planar: bool) -> Grid:
    half = np.array([*HALF_EXTENT_MM[:2], 0.0 if planar else HALF_EXTENT_MM[2]])
    affine = np.diag([LATTICE_MM, LATTICE_MM, LATTICE_MM, 1.0])
    affine[:3, 3] = -half
    i, j, k = (int(n) for n in 2 * half / LATTICE_MM + 1)
    return Grid((i, j, k), affine)


def _smooth_noise(rng: np.random.Generator, lattice: Grid, planar: bool) -> np.ndarray:
    """``(3, I, J, K)`` float32 whose longest vector has length one."""
    from scipy.ndimage import gaussian_filter

    sigma = SMOOTHNESS_MM / LATTICE_MM
    noise = rng.standard_normal((3, *lattice.shape), np.float32)
    for component in noise:
        gaussian_filter(component, sigma, output=component, mode="wrap", truncate=3)
    if planar:
        noise[2] = 0
    return noise / np.sqrt((noise**2).sum(axis=0).max())


def _exponential(velocity: np.ndarray) -> np.ndarray:
    field = velocity / np.float32(2**SQUARINGS)
    identity = identity_positions(field.shape[1:])
    for _ in range(SQUARINGS):
        field = field + sample(field, identity + field)
    return field
