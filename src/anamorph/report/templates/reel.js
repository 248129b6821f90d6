"use strict";
document.querySelectorAll(".reel").forEach((reel) => {
  const slider = reel.querySelector("input");
  const numbers = reel.dataset.numbers.split(" ");
  const show = () => {
    reel.style.setProperty("--slice", slider.value);
    reel.querySelector("output").textContent = numbers[slider.value];
  };
  slider.addEventListener("input", show);
  slider.hidden = false;
  show(); // a browser keeps where a slider was when the page is loaded again
});
