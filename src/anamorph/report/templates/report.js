"use strict";
(() => {
  const viewer = document.querySelector(".viewer");
  if (viewer) {
    viewer.querySelector(".toolbar").hidden = false;
    const slider = viewer.querySelector('input[type="range"]');
    const press = (buttons, chosen) => buttons.forEach((b) => b.setAttribute("aria-pressed", b === chosen));
    const splits = [...viewer.querySelectorAll("[data-set-split]")];
    const modes = [...viewer.querySelectorAll("[data-set-mode]")];
    const split = (percent) => {
      const value = Math.min(100, Math.max(0, percent));
      slider.value = value;
      viewer.dataset.show = value > 0 && value < 100 ? "split" : "one";
      viewer.querySelectorAll(".stack").forEach((stack) => stack.style.setProperty("--split", `${value}%`));
      press(splits, splits.find((b) => (b.dataset.setSplit === "50" ? value > 0 && value < 100 : +b.dataset.setSplit === value)));
    };
    slider.addEventListener("input", () => split(+slider.value));
    splits.forEach((button) => button.addEventListener("click", () => split(+button.dataset.setSplit)));
    modes.forEach((button) => button.addEventListener("click", () => {
      viewer.dataset.mode = button.dataset.setMode;
      press(modes, button);
      const sides = button.dataset.setMode === "side" ? ["Fixed", "Warped"] : ["Before", "After"];
      viewer.querySelector(".name-left").textContent = sides[0];
      viewer.querySelector(".name-right").textContent = sides[1];
    }));
    viewer.querySelector('[data-toggle="outlines"]')?.addEventListener("change", (event) =>
      viewer.classList.toggle("no-outlines", !event.target.checked));
    const full = viewer.querySelector("[data-full]");
    const fill = (wanted) => {
      viewer.classList.toggle("full", wanted);
      full.setAttribute("aria-pressed", wanted);
    };
    full.addEventListener("click", () => fill(!viewer.classList.contains("full")));
    viewer.querySelectorAll(".stack").forEach((stack) => {
      const follow = (event) => {
        const box = stack.getBoundingClientRect();
        split((100 * (event.clientX - box.left)) / box.width);
      };
      stack.addEventListener("pointerdown", (event) => { stack.setPointerCapture(event.pointerId); follow(event); });
      stack.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") fill(false);
      if (event.key.toLowerCase() === "b" && !event.ctrlKey && !event.metaKey && !event.altKey) split(+slider.value > 0 ? 0 : 100);
    });
  }
  const dialog = document.querySelector("dialog");
  const enlarge = (stack) => {
    const large = stack.cloneNode(true);
    const ratio = stack.clientWidth / stack.clientHeight;
    large.setAttribute("aria-label", "close");
    dialog.style.width = `min(96vw, ${96 * ratio}vh)`;
    dialog.replaceChildren(large);
    dialog.showModal();
  };
  const pressed = (event) => event.key === "Enter" || event.key === " ";
  document.querySelectorAll(".card .stack").forEach((stack) => {
    stack.addEventListener("click", () => enlarge(stack));
    stack.addEventListener("keydown", (event) => {
      if (!pressed(event)) return;
      event.preventDefault();
      enlarge(stack);
    });
  });
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (pressed(event)) dialog.close();
  });
})();
