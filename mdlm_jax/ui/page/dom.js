/** An element with properties and children; text is always text. */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  const { dataset = {}, ...others } = properties;
  Object.assign(element, others);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

export const find = (id) => document.getElementById(id);

export const percent = (p) => {
  if (p > 0 && p < 0.001) return "under 0.1 %";
  return `${(100 * p).toFixed(p < 0.1 ? 1 : 0)} %`;
};

/** How unsure, from 0 to 1: on a scale of logarithms, for what a small model writes is seldom sure. */
export const heat = (p) => Math.min(1, -Math.log10(Math.max(p, 1e-9)) / 3);
