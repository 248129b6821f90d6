"use strict";
// Where NiiVue has drawn what: its tiles in CSS pixels, and the way from a place in the scan to a place on the screen.
const PLANES = ["axial", "coronal", "sagittal"];
const ACROSS = { axial: 2, coronal: 1, sagittal: 0 };
const SIDES = { axial: [0, 1], coronal: [0, 2], sagittal: [1, 2] };
const LETTERS = [["L", "R"], ["P", "A"], ["I", "S"]];  // at the low and the high end of x, y and z

function tilesOf(nv) {
  const ratio = nv.uiData.dpr || 1, bottom = nv.gl.canvas.height;
  return nv.screenSlices.map((slice) => {
    let [left, top, width, height] = slice.leftTopWidthHeight;
    if (width < 0) { left += width; width = -width; }
    const below = Math.trunc(bottom - top - height);  // WebGL draws on whole pixels, counted from below
    [left, width, height] = [left, width, height].map(Math.trunc);
    [left, top, width, height] = [left, bottom - below - height, width, height].map((value) => value / ratio);
    return { plane: PLANES[slice.axCorSag] ?? "render", left, top, width, height, start: slice.leftTopMM, span: slice.fovMM };
  });
}

// From fractions of the volume along right, anterior and superior to pixels of a plane; the depth is in mm off it.
function project(nv, tile, frac) {
  const mm = nv.frac2mm(frac);
  const [across, up] = SIDES[tile.plane];
  const depth = ACROSS[tile.plane];
  return {
    x: tile.left + tile.width * ((mm[across] - tile.start[0]) / tile.span[0]),
    y: tile.top + tile.height * (1 - (mm[up] - tile.start[1]) / tile.span[1]),
    depth: Math.abs(mm[depth] - nv.frac2mm(nv.scene.crosshairPos)[depth]),
  };
}

// Anatomical directions at the left, right, top and bottom edge of a plane.
function lettersOf(tile) {
  const [across, up] = SIDES[tile.plane].map((axis) => LETTERS[axis]);
  const [left, right] = tile.span[0] < 0 ? [across[1], across[0]] : across;
  return { left, right, top: up[1], bottom: up[0] };
}

// How the planes and the rendering share a stage: in a row or two by two, whichever shows the scan larger.
function layoutFor(nv, width, most) {
  const [x, y, z] = nv.sliceScale().volScale;
  const tall = Math.max(y, z), wide = Math.max(x, y, z);
  const row = Math.min(width / (2 * x + y + wide), most / tall);
  const grid = Math.min(width / (x + y), most / (y + z));
  return row > grid ? { layout: 3, height: row * Math.max(tall, wide) } : { layout: 2, height: grid * (y + z) };
}
