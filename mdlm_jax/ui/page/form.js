/** What is asked for: the prompt, a few usual options, and all the others as the server names them. */
import { find, make } from "./dom.js";

const USUAL = ["preset", "length", "seed"];
const OF_THE_TEXT = ["prompt", "ending", "length", "best_of", "style", "sentence_length", "most_copied"];

/** Builds the fields of the options. @param {object} hello the server's first message */
export function build(hello) {
  const preset = { name: "preset", doc: "several at once", default: "default", choices: hello.presets };
  const known = new Map([...hello.options, preset].map((option) => [option.name, option]));
  known.delete("prompt");
  const usual = USUAL.filter((name) => known.has(name)).map((name) => field(known.get(name)));
  const rest = [...known.values()].filter(({ name }) => !USUAL.includes(name)).map(field);
  find("usual").replaceChildren(...usual);
  find("options").replaceChildren(...rest);
}

function field({ name, doc, default: value, choices, least, most }) {
  const [id, told] = [`option-${name}`, value === "" || value === null ? "" : String(value)];
  const answers = choices ?? (typeof value === "boolean" ? ["false", "true"] : null);
  const number = typeof value === "number";
  const input = answers
    ? make("select", {}, make("option", { value: "" }, `${told} (as trained)`),
        ...answers.filter((x) => x !== told).map((x) => make("option", { value: x }, x)))
    : number ? make("input", { type: "number", step: "any", placeholder: told })
      : make("textarea", { rows: 2 });
  if (answers && name === "preset") input.options[0].textContent = told;
  if (number && least !== null) input.min = least;
  if (number && most !== null) input.max = most;
  if (name === "seed") Object.assign(input, { value: told, step: 1 });
  if (name === "length") input.placeholder = "fill";
  Object.assign(input, { id, name });
  const label = make("label", { htmlFor: id }, name[0].toUpperCase() + name.slice(1).replaceAll("_", " "));
  if (USUAL.includes(name)) return make("div", {}, label, input);
  input.setAttribute("aria-describedby", `${id}-doc`);
  return make("div", {}, label, input, make("p", { id: `${id}-doc`, className: "hint" }, doc));
}

/** All options that are set, as the server takes them: the others are as trained. Without those of the text
 * for a branch, which takes none from its parent. */
export function options(branch = false) {
  const found = branch ? {} : { prompt: find("prompt").value };
  for (const input of find("form").querySelectorAll("[name]")) {
    if (input.value === "" || (branch && OF_THE_TEXT.includes(input.name))) continue;
    found[input.name] = input.type === "number" ? Number(input.value) : input.value;
  }
  return found;
}

/** The next text is another one. */
export function nextSeed() {
  const seed = find("option-seed");
  if (seed) seed.value = Number(seed.value) + 1;
}

/** Turns what is selected in the prompt into a gap. @returns {string} what is wrong, or nothing */
export function maskSelection() {
  const [prompt, how] = [find("prompt"), find("gap").value];
  const { selectionStart: start, selectionEnd: stop, value } = prompt;
  const old = value.slice(start, stop);
  if (!old && how === "same") return "Select the words to be masked in the text above first.";
  if (how === "same" && old.includes("]")) return "A selection with ] in it needs a number of tokens.";
  const space = how !== "free" && /^ /.test(old) ? " " : "";
  const count = `[MASK:${find("gap-count").value}]`;
  const gap = { same: `[EDIT:${old.slice(space.length)}]`, free: "____", count }[how];
  prompt.setRangeText(space + gap, start, stop, "select");
  prompt.focus();
  return "";
}
