# mypy: allow-untyped-defs
"""Evaluates the anatomy at any points of the world: tissue value and label, with partial volume at every surface."""

import numpy as np
from numba import njit

f32 = np.float32
FAR = f32(1e6)
AIR, SKIN, FAT, MUSCLE, LUNG, GAS = f32(-1000), f32(20), f32(-105), f32(58), f32(-840), f32(-960)
SKIN_MM, DIAPHRAGM_MM = f32(2), f32(3)


@njit
def covered(distance, width):
    """Share of a voxel of some width that lies inside a surface at a signed distance."""
    return min(max(f32(0.5) - distance / width, f32(0)), f32(1))


@njit
def mix(below, above, share):
    return below + (above - below) * share


@njit
def superellipse(outline, x, y):
    u, v = abs(x) / outline[0], abs(y - outline[2]) / outline[1]
    u15, v15 = u * np.sqrt(u), v * np.sqrt(v)
    power = u15 * u + v15 * v
    if power < f32(1e-6):
        return -min(outline[0], outline[1])
    f = power ** f32(0.4)
    slope = np.sqrt((u15 / outline[0]) ** 2 + (v15 / outline[1]) ** 2) * f / power
    return (f - f32(1)) / slope


@njit
def ellipsoid(s, x, y, z):
    """First-order signed distance (f - 1) / |grad f| of f = (sum |q / r|^n)^(1/n)."""
    x, y, z = x - s[0], y - s[1], z - s[2]
    a = (s[3] * x + s[4] * y + s[5] * z) / s[12]
    b = (s[6] * x + s[7] * y + s[8] * z) / s[13]
    c = (s[9] * x + s[10] * y + s[11] * z) / s[14]
    if s[15] > f32(2):
        power = a * a * a * a + b * b * b * b + c * c * c * c
        f = np.sqrt(np.sqrt(power))
        a, b, c = a * a * a, b * b * b, c * c * c
    else:
        power = a * a + b * b + c * c
        f = np.sqrt(power)
    if f < f32(1e-2):
        return -min(s[12], s[13], s[14])
    slope = np.sqrt((a / s[12]) ** 2 + (b / s[13]) ** 2 + (c / s[14]) ** 2) * f / power
    return (f - f32(1)) / slope


@njit
def tube(s, x, y, z):
    x, y, z = x - s[0], y - s[1], z - s[2]
    a, b, c = s[3] - s[0], s[4] - s[1], s[5] - s[2]
    t = (x * a + y * b + z * c) / (a * a + b * b + c * c)
    t = min(max(t, f32(0)), f32(1))
    x, y, z = x - t * a, y - t * b, z - t * c
    return np.sqrt(x * x + y * y + z * z) - mix(s[6], s[7], t)


@njit
def solid_distance(kind, row, x, y, z):
    return ellipsoid(row, x, y, z) if kind == 0 else tube(row, x, y, z)


@njit
def smooth_minimum(a, b, blend):
    """Quilez' polynomial smooth minimum."""
    if blend <= f32(0):
        return min(a, b)
    h = max(blend - abs(a - b), f32(0)) / blend
    return min(a, b) - h * h * blend * f32(0.25)


@njit
def dome(d, x, y, z):
    """Distance to half an ellipsoid on top of a cylinder."""
    u, v, w = (x - d[0]) / d[3], (y - d[1]) / d[4], max(z - d[2], f32(0)) / d[5]
    f = np.sqrt(u * u + v * v + w * w)
    if f < f32(1e-2):
        return -min(d[3], d[4], d[5])
    return (f - f32(1)) * f / np.sqrt((u / d[3]) ** 2 + (v / d[4]) ** 2 + (w / d[5]) ** 2)


@njit
def read_periodic(table, x, y, z, scale):
    """Trilinear value of a cubic table that repeats, whose side is a power of two."""
    mask = table.shape[0] - 1
    x, y, z = x * scale, y * scale, z * scale
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    i, j, k = int(fx), int(fy), int(fz)
    x, y, z = x - fx, y - fy, z - fz
    i0, i1, j0, j1, k0, k1 = i & mask, (i + 1) & mask, j & mask, (j + 1) & mask, k & mask, (k + 1) & mask
    a = mix(mix(table[i0, j0, k0], table[i0, j0, k1], z), mix(table[i0, j1, k0], table[i0, j1, k1], z), y)
    b = mix(mix(table[i1, j0, k0], table[i1, j0, k1], z), mix(table[i1, j1, k0], table[i1, j1, k1], z), y)
    return mix(a, b, x)


@njit
def paint(hu, label, t, own_label, distance, gas_y, bump, texture, width):
    """Lay one organ over what is there; ``t`` is its row of tissue constants."""
    distance = distance + t[5] * bump
    share = covered(distance, width)
    if share > f32(0):
        shell = t[0] + t[6] * texture
        core = mix(t[1] + t[6] * texture, GAS, covered(t[3] - gas_y, width))
        hu = mix(hu, mix(shell, core, covered(distance + t[2], width)), share)
        if share >= f32(0.5) and own_label >= 0:
            label = own_label
    return hu, label


@njit
def body_wall(torso, x, y, z, bump, texture, width):
    """Value before any organ is painted, and the distances to skin, wall, abdomen and thorax."""
    skin = superellipse(torso[0], x, y) + f32(4) * bump
    hu = mix(AIR, SKIN, covered(skin, width))
    hu = mix(hu, FAT + f32(8) * texture, covered(skin + SKIN_MM, width))
    wall = superellipse(torso[1], x, y) + f32(3) * bump
    hu = mix(hu, MUSCLE + f32(10) * texture, covered(wall, width))
    cavity = superellipse(torso[2], x, y) + f32(2) * bump
    hu = mix(hu, FAT + f32(8) * texture, covered(cavity, width))
    roof = smooth_minimum(dome(torso[3], x, y, z), dome(torso[4], x, y, z), f32(20))
    # The lungs end on a plane that rises to the front; else they would reach down between the two domes.
    roof = smooth_minimum(roof, (z - f32(0.35) * y - f32(25)) * f32(0.944), f32(15))
    thorax = max(cavity, -roof)
    hu = mix(hu, MUSCLE, covered(thorax, width))
    hu = mix(hu, LUNG + f32(25) * texture, covered(thorax + DIAPHRAGM_MM, width))
    return hu, skin, wall, max(cavity, roof), thorax


@njit
def tissue_at(x, y, z, torso, scene, width):
    """Value and label at one point, RAS mm."""
    bump = read_periodic(scene.bumps, x, y, z, f32(1) / scene.bump_mm)
    texture = read_periodic(scene.texture, x, y, z, f32(1) / scene.texture_mm)
    hu, skin, wall, abdomen, thorax = body_wall(torso, x, y, z, bump, texture, width)
    if skin > width:
        return AIR, 0
    origin, cells = scene.cell_origin, scene.cell_start
    a = min(max(int((x - origin[0]) / scene.cell_mm), 0), cells.shape[0] - 1)
    b = min(max(int((y - origin[1]) / scene.cell_mm), 0), cells.shape[1] - 1)
    c = min(max(int((z - origin[2]) / scene.cell_mm), 0), cells.shape[2] - 1)
    n = cells[a, b, c]
    last = n + scene.cell_count[a, b, c]
    label = 0
    while n < last:
        organ = scene.solid_organ[scene.cell_solids[n]]
        distance = FAR
        while n < last and scene.solid_organ[scene.cell_solids[n]] == organ:
            solid = scene.cell_solids[n]
            d = solid_distance(scene.solid_kind[solid], scene.solids[solid], x, y, z)
            distance = smooth_minimum(distance, d, scene.tissue[organ, 4])
            n += 1
        if scene.organ_region[organ] == 1:
            distance = max(distance, abdomen + f32(1))
        elif scene.organ_region[organ] == 2:
            distance = max(distance, thorax)
        elif scene.organ_region[organ] == 3:
            distance = max(distance, wall)
        own = scene.organ_label[organ]
        hu, label = paint(hu, label, scene.tissue[organ], own, distance, y, bump, texture, width)
    return hu, label


@njit(nogil=True, error_model="numpy", cache=True)
def render(begin, end, positions, matrix, torso, scene, width, hu_out, label_out):
    """Values and labels at ``(3, N)`` positions that ``matrix`` takes to RAS mm; ``width`` is a voxel's size in mm."""
    for p in range(begin, end):
        u, v, w = positions[0, p], positions[1, p], positions[2, p]
        x = matrix[0, 0] * u + matrix[0, 1] * v + matrix[0, 2] * w + matrix[0, 3]
        y = matrix[1, 0] * u + matrix[1, 1] * v + matrix[1, 2] * w + matrix[1, 3]
        z = matrix[2, 0] * u + matrix[2, 1] * v + matrix[2, 2] * w + matrix[2, 3]
        hu_out[p], label_out[p] = tissue_at(x, y, z, torso, scene, width)
