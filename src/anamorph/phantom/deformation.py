"""A random, smooth and invertible map of one body to another."""

from __future__ import annotations

import numpy as np

from anamorph.geometry import Grid
from anamorph.geometry.sampling import identity_positions, sample
from anamorph.phantom.shapes import rotation
from anamorph.transforms import Affine, Displacement

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

    The trilinear field on the lattice *is* the deformation, not an approximation of it, so that the images, the
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
