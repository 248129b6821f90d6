"use strict";
// Closed lines around the voxels of each label of a slice, as corners of voxels, without those that lie on a straight line.
function contours(label, width, height) {
  const edges = new Map();  // of each label, from a corner to the corners that lines around it lead to
  const add = (value, from, to) => {
    if (!edges.has(value)) edges.set(value, new Map());
    const of = edges.get(value), key = from[0] + from[1] * (width + 1);
    if (of.has(key)) of.get(key).push(to); else of.set(key, [to]);
  };
  for (let j = 0; j < height; j++) {
    for (let i = 0; i < width; i++) {
      const value = label(i, j);
      if (!value) continue;
      if (label(i, j - 1) !== value) add(value, [i, j], [i + 1, j]);
      if (label(i + 1, j) !== value) add(value, [i + 1, j], [i + 1, j + 1]);
      if (label(i, j + 1) !== value) add(value, [i + 1, j + 1], [i, j + 1]);
      if (label(i - 1, j) !== value) add(value, [i, j + 1], [i, j]);
    }
  }
  const straight = (a, b, c) => (a[0] === b[0] && b[0] === c[0]) || (a[1] === b[1] && b[1] === c[1]);
  const found = new Map();
  for (const [value, of] of edges) {
    const loops = [];
    while (of.size) {
      const first = of.keys().next().value, loop = [];
      let key = first;
      do {
        const ends = of.get(key), to = ends.pop();
        if (!ends.length) of.delete(key);
        if (loop.length > 1 && straight(loop.at(-2), loop.at(-1), to)) loop.pop();
        loop.push(to);
        key = to[0] + to[1] * (width + 1);
      } while (key !== first);
      loops.push(loop);
    }
    found.set(value, loops);
  }
  return found;
}
