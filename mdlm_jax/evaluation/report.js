"use strict";
{
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
  const open = () => { // a place in a list that is folded up
    const place = document.getElementById(location.hash.slice(1));
    const box = place?.closest("details:not([open])");
    if (box) {
      box.open = true;
      place.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  open();
}
