"use strict";
// The viewer starts when asked for: it unpacks NiiVue and the volumes, all from the page, and wires the controls.
(() => {
  const root = document.querySelector(".explorer");
  if (!root || !("DecompressionStream" in window)) return;
  const find = (selector) => root.querySelector(selector);
  const contents = JSON.parse(document.getElementById("viewer-content").textContent);
  const trouble = (text) => { find(".trouble").textContent = text; };
  const state = {
    mode: "curtain", other: "warped", blend: 50, curtain: 50, square: 40, map: "", mapOpacity: 100, view: "all",
    fixedLabels: true, movingLabels: true, fill: false, landmarks: true, landmark: -1,
  };
  let panes = [], leading = null;
  find(".start").hidden = false;

  const unpack = async (packed) =>
    new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  const embedded = (id) => unpack(Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0)));
  const fetched = async (source) => {
    const answer = await fetch(source);
    if (!answer.ok) throw new Error(`${source}: ${answer.status}`);
    return answer.arrayBuffer();
  };
  // Volumes lie packed in the page, or a server has them; several panes share one.
  const loaded = {};
  const load = (source) => (loaded[source] ??= source.startsWith("#") ? embedded(source.slice(1)) : fetched(source));

  find(".start button").addEventListener("click", async () => {
    find(".start button").disabled = true;
    try {
      if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this browser has no WebGL 2");
      const script = document.createElement("script");
      script.textContent = new TextDecoder().decode(await load(root.dataset.niivue));
      document.head.append(script);
      find(".start").hidden = true;
      find(".work").hidden = false;
      const stages = [...root.querySelectorAll(".stage")];
      panes = contents.map((content, index) => new Pane(stages[index], content, load, moved));
      for (const pane of panes) await pane.start(state);
      leading = panes[0];
      lists();
      refresh();
      root.dataset.ready = "yes";
    } catch (error) {
      find(".start").hidden = false;
      find(".work").hidden = true;
      trouble(`The viewer cannot start: ${error.message}. The pictures above show the pair without it.`);
    }
  });

  if ("atOnce" in root.dataset) find(".start button").click();

  // What is done to one pane is done to all.
  let following = false;
  const moved = (pane) => {
    if (following || !leading) return;
    following = true;
    panes.filter((other) => other !== pane).forEach((other) => other.stack.likeness(pane.stack));
    following = false;
    readout(pane);
  };
  const goTo = (ras) => leading.stack.goTo(ras);

  const readout = (pane) => {
    const ras = pane.stack.place(), rows = pane.content.grid.to_voxel;
    const voxel = rows.slice(0, 3).map((row) => Math.round(row[0] * ras[0] + row[1] * ras[1] + row[2] * ras[2] + row[3]));
    if (document.activeElement !== find(".position input")) find(".position input").value = ras.map((v) => v.toFixed(1)).join(", ");
    find(".voxel").textContent = [`voxel ${voxel.join(", ")} of the fixed scan`, pane.told()].filter(Boolean).join("; ");
  };

  const refresh = async () => {
    root.dataset.mode = state.mode;
    for (const button of root.querySelectorAll("[data-mode-of], [data-view]")) {
      const chosen = "view" in button.dataset ? state.view === button.dataset.view : state.mode === button.dataset.modeOf;
      button.setAttribute("aria-pressed", chosen);
    }
    legend();
    for (const pane of panes) await pane.show();
    readout(leading);
  };

  const legend = () => {
    const map = contents[0].maps.find((one) => one.key === state.map);
    find(".legend").hidden = !map;
    if (!map) return;
    const stops = map.colours.match(/.{6}/g).slice(1, -1);
    find(".legend .colours").style.background = `linear-gradient(to right, ${stops.map((hex, i) => `#${hex} ${(100 * i) / stops.length}% ${(100 * (i + 1)) / stops.length}%`).join(",")})`;
    find(".legend .ticks").replaceChildren(...map.ticks.map((tick) => text("span", tick)));
    find(".legend .caption").textContent = map.caption;
  };

  const text = (name, content, title = "") => {
    const made = document.createElement(name);
    made.textContent = content;
    if (title) made.title = title;
    return made;
  };
  const jump = (label, ras, also = () => {}) => {
    const button = text("button", label);
    button.type = "button";
    button.addEventListener("click", () => { also(); goTo(ras); });
    return button;
  };
  const row = (...cells) => {
    const made = document.createElement("tr");
    made.append(...cells.map((cell) => { const td = document.createElement("td"); td.append(cell); return td; }));
    return made;
  };
  const millimetres = (value) => value.toFixed(value < 10 ? 2 : 1);

  const lists = () => {
    const content = contents[0];
    const places = contents.flatMap((one) => one.places.map((place) => {
      const at = place.ras_mm.map((v) => v.toFixed(0)).join(", ");
      const title = contents.length > 1 ? `${place.title}, ${one.title}` : place.title;
      return row(jump(title, place.ras_mm, () => choose("map", place.key)), place.value, at);
    }));
    find(".list-of-places tbody").replaceChildren(...places);
    const labels = content.labels.map((label) => {
      const dot = document.createElement("i");
      dot.className = "dot";
      dot.style.background = label.colour;
      const name = label.name || `label ${label.value}`;
      const cell = document.createElement("span");
      cell.append(dot, label.ras_mm ? jump(name, label.ras_mm) : name);
      return row(cell, String(label.value));
    });
    find(".list-of-labels tbody").replaceChildren(...labels);
    const marks = content.landmarks.map((mark, index) => {
      const after = contents.map((one) => (one.landmarks[index] ? millimetres(one.landmarks[index].after_mm) : "–")).join(" / ");
      return row(jump(mark.name, mark.fixed_mm, () => { state.landmark = index; }), millimetres(mark.before_mm), after);
    });
    find(".list-of-landmarks tbody").replaceChildren(...marks);
    for (const [name, rows] of [["places", places], ["labels", labels], ["landmarks", marks]]) find(`.list-of-${name}`).hidden = !rows.length;
  };

  const choose = (key, value) => {
    state[key] = value;
    const control = find(`[data-set="${key}"]`);
    if (control) control.value = value;
    refresh();
  };
  root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-mode-of], [data-view], [data-zoom]");
    if (!button || !leading) return;
    if (button.dataset.modeOf) choose("mode", button.dataset.modeOf);
    else if (button.dataset.view) { state.view = button.dataset.view; panes.forEach((pane) => pane.stack.view(state.view)); refresh(); }
    else leading.stack.zoom(Number(button.dataset.zoom));
  });
  root.addEventListener("input", (event) => {
    const control = event.target.closest("[data-set]");
    if (!control || !leading) return;
    state[control.dataset.set] = control.type === "checkbox" ? control.checked : control.type === "range" ? Number(control.value) : control.value;
    refresh();
  });
  find(".position").addEventListener("submit", (event) => {
    event.preventDefault();
    const numbers = find(".position input").value.split(/[\s,;]+/).filter(Boolean).map(Number);
    if (numbers.length === 3 && numbers.every(Number.isFinite)) { find(".position input").blur(); goTo(numbers); }
    else trouble("A position is three numbers, RAS in mm, such as 10, -20, 35.");
  });

  // NiiVue has keys of its own that would part the three pictures of a pane; these take their place.
  const KEYS = { ArrowLeft: [0, 1], ArrowRight: [0, -1], ArrowUp: [1, 1], ArrowDown: [1, -1], PageUp: [2, 1], PageDown: [2, -1] };
  root.addEventListener("keydown", (event) => {
    if (!event.target.matches("canvas")) return;
    event.stopPropagation();
    if (event.key in KEYS) { event.preventDefault(); leading.stack.step(...KEYS[event.key]); }
    if (event.key === "+" || event.key === "-") leading.stack.zoom(event.key === "+" ? 1.25 : 0.8);
  }, true);
  for (const kind of ["keyup", "dblclick"]) {
    root.addEventListener(kind, (event) => { if (event.target.matches("canvas")) event.stopPropagation(); }, true);
  }
  root.addEventListener("wheel", (event) => {
    if (!event.ctrlKey || !event.target.matches("canvas")) return;
    event.preventDefault();
    event.stopPropagation();
    leading.stack.zoom(event.deltaY < 0 ? 1.25 : 0.8);
  }, { capture: true, passive: false });
  root.addEventListener("mousemove", (event) => {
    if (event.buttons & 6 && event.target.matches("canvas")) leading.stack.dragged();
  });
  let held = null;
  root.addEventListener("pointermove", (event) => {
    if (!held) return;
    const across = (event.clientX - held.edge - held.left) / held.width;
    choose("curtain", Math.min(Math.max(100 * across, 0), 100));
  });
  root.addEventListener("pointerup", () => { held = null; });
  root.addEventListener("pointerdown", (event) => {
    if (event.target.matches(".grip")) {
      const { left, width } = event.target.dataset;
      held = { edge: event.target.closest(".stage").getBoundingClientRect().left, left: Number(left), width: Number(width) };
      event.preventDefault();
    }
    leading = panes.find((pane) => pane.stage.contains(event.target)) ?? leading;
    if (event.target.matches("canvas")) event.target.focus({ preventScroll: true });
  }, true);
  root.addEventListener("pointerover", (event) => {
    if (!event.buttons) leading = panes.find((pane) => pane.stage.contains(event.target)) ?? leading;
  });
})();
