"use strict";
{
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  try { // some browsers keep nothing for a file
    if (localStorage.theme) root.dataset.theme = localStorage.theme;
  } catch { /* then it is not remembered */ }
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.theme = root.dataset.theme; } catch { /* as above */ }
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
