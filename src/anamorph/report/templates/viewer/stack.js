"use strict";
// Three pictures of one place on top of each other: the fixed scan, what it is compared with, and a map. Each is a NiiVue
// of its own, so that all ways to compare them are styles of the page, and a map keeps the colours of its legend.
const LAYERS = ["under", "over", "map"];
const VIEWS = { all: 3, axial: 0, coronal: 1, sagittal: 2, render: 4 };
const MOST_HIGH = 0.86, LEAST_PIXELS = 300;  // of a stage: its share of the window, and its height in any case
const PAN = 3, CROSSHAIR = 8, NOTHING = 0;
const OPTIONS = {
  backColor: [0, 0, 0, 0], crosshairWidth: 0, show3Dcrosshair: false, isOrientationTextVisible: false, loadingText: "",
  isRadiologicalConvention: true, sagittalNoseLeft: true, isForceMouseClickToVoxelCenters: true, multiplanarShowRender: 1,
  multiplanarPadPixels: 4, dragAndDropEnabled: false, dragMode: NOTHING, isAntiAlias: false, logLevel: "silent",
};

class Stack {
  constructor(stage, moved) {
    this.stage = stage;
    this.moved = moved;
  }

  async start() {
    for (const name of LAYERS) {
      const canvas = this.stage.appendChild(document.createElement("canvas"));
      canvas.className = name;
      this[name] = new niivue.Niivue({ ...OPTIONS, interactive: name === "map" });
      await this[name].attachToCanvas(canvas, false);
    }
    // The default would drop how opaque a pixel is, and what lies below would shine through.
    const gl = this.map.gl;
    gl.blendFunc = (source, target) => gl.blendFuncSeparate(source, target, gl.ONE, target);
    new ResizeObserver(() => { if (this.viewed) this.fit(); }).observe(this.stage.parentElement);
    this.map.setMouseEventConfig({ leftButton: { primary: CROSSHAIR }, rightButton: PAN, centerButton: PAN });
    this.map.setTouchEventConfig({ singleTouch: CROSSHAIR, doubleTouch: PAN });
    this.map.sync = () => this.follow();
    this.map.canvas.setAttribute("aria-label", "planes and rendering; arrow keys and page keys move the cursor");
  }

  // The topmost picture takes the mouse; the others show the same place.
  follow() {
    if (this.fitting) return;
    const scene = this.map.scene;
    for (const nv of [this.under, this.over]) {
      nv.scene.crosshairPos = [...scene.crosshairPos];
      nv.scene.pan2Dxyzmm = [...scene.pan2Dxyzmm];
      nv.scene.renderAzimuth = scene.renderAzimuth;
      nv.scene.renderElevation = scene.renderElevation;
      nv.scene.volScaleMultiplier = scene.volScaleMultiplier;
      if (nv.volumes.length && nv.canvas.style.visibility !== "hidden") nv.drawScene();
    }
    this.moved();
  }

  // While its picture is dragged, NiiVue is one step behind and calls nobody.
  dragged() {
    this.map.drawScene();
    this.follow();
  }

  show(layer, images) {
    const nv = this[layer];
    nv.volumes = images;
    nv.back = images[0] ?? null;
    nv.overlays = images.slice(1);
    if (layer === "map") {  // a rendering of nothing takes as long as any
      if (images.length > 1) delete nv.drawImage3D;
      else nv.drawImage3D = () => {};
    }
    nv.updateGLVolume();
  }

  view(name) {
    this.viewed = name;
    for (const layer of LAYERS) this[layer].opts.sliceType = VIEWS[name];
    this.fit();
  }

  // As large as the page has room for.
  fit() {
    const most = Math.max(MOST_HIGH * window.innerHeight, LEAST_PIXELS);
    const { layout, height } = layoutFor(this.map, this.stage.clientWidth, most);
    for (const layer of LAYERS) this[layer].opts.multiplanarLayout = layout;
    this.stage.style.height = `${Math.round(this.viewed === "all" ? height : Math.min(most, this.stage.clientWidth))}px`;
    this.fitting = true;  // all are drawn by it, so none has to follow
    for (const layer of LAYERS) this[layer].resizeListener();
    this.fitting = false;
    this.moved();
  }

  goTo(ras) {
    const frac = [...this.map.mm2frac(ras, 0, true)].map((value) => Math.min(Math.max(value, 0), 1));
    this.map.scene.crosshairPos = frac;
    this.map.drawScene();
  }

  place() {
    return [...this.map.frac2mm(this.map.scene.crosshairPos, 0, true)].slice(0, 3);
  }

  step(axis, voxels) {
    const scene = this.map.scene, sizes = this.map.back.dimsRAS;
    const frac = [...scene.crosshairPos];
    const voxel = Math.round(frac[axis] * sizes[axis + 1] - 0.5) + voxels;
    frac[axis] = (Math.min(Math.max(voxel, 0), sizes[axis + 1] - 1) + 0.5) / sizes[axis + 1];
    scene.crosshairPos = frac;
    this.map.drawScene();
  }

  // Zoom with the cursor staying where it is on the screen.
  zoom(factor) {
    const pan = this.map.scene.pan2Dxyzmm, at = this.map.frac2mm(this.map.scene.crosshairPos);
    const next = Math.min(Math.max(pan[3] * factor, 1), 16);  // a factor of 0 shows everything
    this.map.scene.pan2Dxyzmm = next === 1 ? [0, 0, 0, 1] : [0, 1, 2].map((i) => pan[i] + (pan[3] - next) * at[i]).concat(next);
    this.map.drawScene();
  }

  likeness(other) {
    for (const key of ["renderAzimuth", "renderElevation", "volScaleMultiplier"]) this.map.scene[key] = other.map.scene[key];
    this.map.scene.pan2Dxyzmm = [...other.map.scene.pan2Dxyzmm];
    this.goTo(other.place());
  }
}
