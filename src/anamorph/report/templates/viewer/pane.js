"use strict";
// One registered pair: its volumes, how they are compared, and what is drawn over them.
const NEAR_MM = 2;  // landmarks so far off a plane are drawn on it
const LABELS = ["fixed_labels", "moving_labels", "warped_labels"];
const DIFFERENCE = "difference to ";
const HEADER = 352;  // bytes of a NIfTI file before its voxels

function element(name, attributes = {}, text = "") {
  const made = document.createElementNS(document.querySelector(".stage svg").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

class Pane {
  constructor(stage, content, load, moved) {
    this.content = content;
    this.load = load;
    this.files = {};
    this.stack = new Stack(stage, () => { this.draw(); moved(this); });
    this.stage = stage;
  }

  async start(state) {
    this.state = state;
    await this.stack.start();
    this.svg = this.stage.querySelector("svg");
    this.stage.append(this.svg);  // on top
    this.stack.show("under", [await this.image("fixed")]);
    this.base = await this.image("fixed");
    this.base.opacity = 0;
    for (const map of this.content.maps) this.stack.map.addColormap(map.key, colours(map.colours));
    for (const key of LABELS.filter((name) => this.has(name))) await this.file(key);
    await this.show();
    this.stack.view(state.view);
    this.stack.goTo(this.content.focus);
  }

  has(key) {
    return key in this.content.volumes;
  }

  // The unpacked NIfTI file of a volume, kept.
  async file(key) {
    const other = key.startsWith(DIFFERENCE) && key.slice(DIFFERENCE.length);
    this.files[key] ??= await (other ? this.difference(other) : this.load(this.content.volumes[key]));
    return this.files[key];
  }

  async difference(other) {
    const [one, two] = [await this.file("fixed"), await this.file(other)].map((file) => new Uint8Array(file));
    const apart = one.slice();
    for (let i = HEADER; i < apart.length; i++) apart[i] = Math.abs(one[i] - two[i]);
    return apart.buffer;
  }

  async image(key, colormap = "gray") {
    const image = await niivue.NVImage.new(await this.file(key), `${key}.nii`, colormap);
    image.cal_min = 0;
    image.cal_max = 255;
    return image;
  }

  // Show what the state says; volumes are sent to the graphics card only when they are others than before.
  async show() {
    const { mode, other, map, fill } = this.state;
    const over = other === "none" ? "" : mode === "difference" ? DIFFERENCE + other : other;
    if (over !== this.shownOver) {
      this.shownOver = over;
      this.stack.show("over", over ? [await this.image(over)] : []);
    }
    const wanted = `${map} ${fill}`;
    if (wanted !== this.shownMap) {
      this.shownMap = wanted;
      const images = [this.base];
      if (map && this.has(map)) images.push(await this.image(map, map));
      if (fill && this.has("fixed_labels")) images.push(await this.labelImage("fixed_labels"));
      this.stack.show("map", images);
    }
    this.stack.map.canvas.style.opacity = this.state.mapOpacity / 100;
    const hidden = this.stack.over.canvas.style.visibility === "hidden";
    this.draw();
    if (hidden && other !== "none") this.stack.follow();  // it was not drawn meanwhile
  }

  async labelImage(key) {
    const image = await this.image(key);
    const shown = this.content.labels.map((label) => label.colour.match(/[0-9a-f]{2}/g).map((pair) => parseInt(pair, 16)));
    const [R, G, B] = [0, 1, 2].map((part) => [0, ...shown.map((colour) => colour[part])]);
    image.setColormapLabel({ R, G, B, A: [0, ...shown.map(() => 255)], I: R.map((_, i) => i) });
    image.opacity = 0.5;
    return image;
  }

  draw() {
    const nv = this.stack.map, tiles = tilesOf(nv);
    this.style(tiles);
    const shapes = [];
    for (const tile of tiles.filter((one) => one.plane !== "render")) {
      const clip = { x: tile.left, y: tile.top, width: tile.width, height: tile.height };
      const group = element("svg", { ...clip, "data-plane": tile.plane, viewBox: `${tile.left} ${tile.top} ${tile.width} ${tile.height}` });
      if (this.state.fixedLabels) this.outlines(group, nv, tile, "fixed_labels", "");
      if (this.state.movingLabels) this.outlines(group, nv, tile, `${this.state.other}_labels`, "5 3");
      if (this.state.landmarks) this.landmarks(group, nv, tile);
      this.cursor(group, nv, tile);
      shapes.push(group, ...this.letters(tile));
    }
    if (this.state.mode === "curtain" && this.state.other !== "none") {
      for (const tile of tiles) {
        const x = tile.left + (tile.width * this.state.curtain) / 100;
        const ends = { x1: x, x2: x, y1: tile.top, y2: tile.top + tile.height };
        shapes.push(element("line", { class: "curtain", ...ends }));
        shapes.push(element("line", { class: "grip", ...ends, "data-left": tile.left, "data-width": tile.width }));
      }
    }
    this.svg.replaceChildren(...shapes);
  }

  // How the second picture lies on the first is a matter of style alone.
  style(tiles) {
    const style = this.stack.over.canvas.style, { mode, other } = this.state;
    style.visibility = other === "none" ? "hidden" : "visible";
    style.opacity = mode === "blend" ? this.state.blend / 100 : 1;
    const rest = (tile) => (tile.width * (100 - this.state.curtain)) / 100;
    style.clipPath = mode !== "curtain" ? "none" : `path("${tiles.map((tile) =>
      `M${tile.left + tile.width} ${tile.top}v${tile.height}h${-rest(tile)}v${-tile.height}Z`).join("")}")`;
    const side = 2 * this.state.square;
    style.maskImage = mode === "checkerboard" ? "conic-gradient(#000 25%, #0000 0 50%, #000 0 75%, #0000 0)" : "none";
    style.maskSize = `${side}px ${side}px`;
  }

  letters(tile) {
    const { left, right, top, bottom } = lettersOf(tile);
    const x = tile.left + tile.width / 2, y = tile.top + tile.height / 2;
    return [
      element("text", { class: "start", x: tile.left + 5, y }, left),
      element("text", { class: "end", x: tile.left + tile.width - 5, y }, right),
      element("text", { x, y: tile.top + 10 }, top),
      element("text", { x, y: tile.top + tile.height - 9 }, bottom),
      element("text", { class: "start name", x: tile.left + 5, y: tile.top + tile.height - 9 }, tile.plane),
    ];
  }

  cursor(group, nv, tile) {
    const { x, y } = project(nv, tile, nv.scene.crosshairPos), gap = 7;
    const right = tile.left + tile.width, bottom = tile.top + tile.height;
    const d = `M${tile.left} ${y}H${x - gap}M${x + gap} ${y}H${right}M${x} ${tile.top}V${y - gap}M${x} ${y + gap}V${bottom}`;
    group.append(element("path", { class: "cursor", d }));
  }

  landmarks(group, nv, tile) {
    const partner = this.state.other === "moving" ? "moving_mm" : "warped_mm";
    this.content.landmarks.forEach((mark, index) => {
      const [here, there] = [mark.fixed_mm, mark[partner]].map((ras) => project(nv, tile, nv.mm2frac(ras, 0, true)));
      if (here.depth > NEAR_MM) return;
      const cross = `M${there.x - 4} ${there.y - 4}l8 8M${there.x - 4} ${there.y + 4}l8 -8`;
      const kind = index === this.state.landmark ? "mark chosen" : "mark";
      group.append(
        element("path", { class: `${kind} pull`, d: `M${here.x} ${here.y}L${there.x} ${there.y}` }),
        element("circle", { class: kind, cx: here.x, cy: here.y, r: 5, "data-index": index }),
        element("path", { class: `${kind} there`, d: cross }),
      );
    });
  }

  // What a volume holds at the cursor; undefined where it has not been unpacked.
  valueAt(key) {
    if (!this.files[key]) return undefined;
    const volume = this.stack.map.volumes.find((one) => one.name === `${key}.nii`) ?? this.base;
    const { dimsRAS, img2RASstep, img2RASstart } = volume;
    let place = HEADER;
    volume.mm2vox(this.stack.place()).forEach((voxel, axis) => {
      place += img2RASstart[axis] + Math.min(Math.max(voxel, 0), dimsRAS[axis + 1] - 1) * img2RASstep[axis];
    });
    return new Uint8Array(this.files[key])[place];
  }

  // The label and the number of the map at the cursor, in words.
  told() {
    const words = [], label = this.content.labels[this.valueAt("fixed_labels") - 1];
    if (label) words.push(label.name || `label ${label.value}`);
    const map = this.content.maps.find((one) => one.key === this.state.map), step = map && this.valueAt(map.key);
    if (!map || step === undefined) return words.join(", ");
    const steps = map.colours.length / 6 - 2, share = (step - 1) / (steps - 1);
    const number = map.logarithmic ? map.low * (map.high / map.low) ** share : map.low + share * (map.high - map.low);
    const beyond = step === steps ? "≥ " : step === 1 && map.logarithmic ? "≤ " : "";  // the ends of a scale stand for more
    const shown = `map: ${beyond}${number.toPrecision(3)} ${map.unit}`;
    words.push(step === 0 ? "map: nothing known" : step > steps ? "folded" : shown);
    return words.join(", ");
  }

  // The borders of the labels in a plane, along the edges of their voxels.
  outlines(group, nv, tile, key, dashes) {
    const file = this.files[key];
    if (!file) return;
    const { dimsRAS, img2RASstep, img2RASstart } = nv.back, sizes = dimsRAS.slice(1, 4);
    const [across, up] = SIDES[tile.plane], depth = ACROSS[tile.plane];
    const at = Math.min(Math.max(Math.floor(nv.scene.crosshairPos[depth] * sizes[depth]), 0), sizes[depth] - 1);
    const voxels = new Uint8Array(file, HEADER);
    const start = img2RASstart[0] + img2RASstart[1] + img2RASstart[2] + at * img2RASstep[depth];
    const label = (i, j) => (i < 0 || j < 0 || i >= sizes[across] || j >= sizes[up]
      ? 0 : voxels[start + i * img2RASstep[across] + j * img2RASstep[up]]);
    const corner = (i, j) => {
      const frac = [0.5, 0.5, 0.5];
      frac[across] = i / sizes[across]; frac[up] = j / sizes[up];
      return project(nv, tile, frac);
    };
    const from = corner(0, 0), to = corner(sizes[across], sizes[up]);
    const dx = (to.x - from.x) / sizes[across], dy = (to.y - from.y) / sizes[up];
    for (const [value, loops] of contours(label, sizes[across], sizes[up])) {
      const d = loops.map((loop) => `M${loop.map(([i, j]) => `${(from.x + i * dx).toFixed(1)} ${(from.y + j * dy).toFixed(1)}`).join("L")}Z`).join("");
      const stroke = this.content.labels[value - 1]?.colour ?? "#fff";
      group.append(element("path", { class: "outline", d, stroke, "stroke-dasharray": dashes }));
    }
  }
}

function colours(hex) {
  const bytes = hex.match(/../g).map((pair) => parseInt(pair, 16));
  const [R, G, B] = [0, 1, 2].map((part) => bytes.filter((_, i) => i % 3 === part));
  const all = Array.from({ length: 256 }, (_, i) => i);  // one colour for each of 256 values, so that none is mixed
  const filled = (part) => all.map((i) => part[i] ?? 0);
  return { R: filled(R), G: filled(G), B: filled(B), A: all.map((i) => (i && i < R.length ? 255 : 0)), I: all };
}
