"use strict";
const test = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const total = test.pairs.length;
const held = "mdlm-blind-" + test.test;
let state = { who: "", begun: false, answers: [] };
let at = 0, since = 0;

// FNV-1a, as the writer of this page has it: it keeps answers from being read at a glance, no more.
function key(pair, choice) {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(`${test.salt}:${pair}:${choice}`)) {
    value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  }
  return value;
}
const right = ({ pair, choice }) => key(pair, choice) === test.pairs[pair].key;

// A reload goes on; where a browser keeps nothing for files, it begins anew.
function keep() {
  try { localStorage.setItem(held, JSON.stringify(state)); } catch { /* nothing can be kept */ }
}
function recall() {
  try {
    const found = JSON.parse(localStorage.getItem(held));
    const whole = found && typeof found.who === "string" && Array.isArray(found.answers)
      && found.answers.length <= total
      && found.answers.every((a, i) => a.pair === i && [0, 1, 2].includes(a.choice));
    if (whole) state = found;
  } catch { /* nothing was kept */ }
}

function show(name) {
  for (const id of ["intro", "question", "end"]) $(id).hidden = id !== name;
}

function lay(place, text) {
  place.replaceChildren(...text.split("\n\n").map((paragraph) => {
    const made = document.createElement("p");
    made.textContent = paragraph;
    made.dir = "auto";
    return made;
  }));
}

function next() {
  at = state.answers.length;
  if (at >= total) return finish();
  show("question");
  $("ask").textContent = `Pair ${at + 1} of ${total}`;
  lay($("text-1"), test.pairs[at].texts[0]);
  lay($("text-2"), test.pairs[at].texts[1]);
  window.scrollTo(0, 0);
  $("ask").focus({ preventScroll: true });
  since = performance.now();
}

function choose(choice) {
  if ($("question").hidden) return;
  const answer = {
    pair: at, choice, seconds: Math.round((performance.now() - since) / 100) / 10,
    when: new Date().toISOString().replace(/\.\d+Z$/, "+00:00"),
  };
  state.answers.push(answer);
  keep();
  $("told").textContent = test.tell && choice ? `Pair ${at + 1}: ${right(answer) ? "right" : "wrong"}` : "";
  next();
}

function finish() {
  const counted = state.answers.filter(({ choice }) => choice);
  const good = counted.filter(right).length, n = counted.length;
  const [low, high, sentence] = test.outcomes[n][good];
  show("end");
  $("score").textContent = n ? `You found the book in ${good} of ${n} pairs.` : "You answered no pair.";
  $("span").textContent = n ? `That is ${Math.round(100 * good / n)} %, with a 95 % interval of ${low} to ${high} %; chance is 50 %.` : "";
  $("meaning").textContent = n ? test.sentences[sentence] : "";
  $("skipped").textContent = n < total ? `Skipped: ${total - n}; they do not count.` : "";
  const made = JSON.stringify({ test: test.test, who: state.who, answers: state.answers });
  $("json").value = made;
  URL.revokeObjectURL($("save").href);
  $("save").href = URL.createObjectURL(new Blob([made + "\n"], { type: "application/json" }));
  const wrong = counted.filter((answer) => !right(answer));
  $("fooled").hidden = !wrong.length;
  $("texts").replaceChildren(...wrong.map(({ pair, choice }) => {
    const item = document.createElement("li");
    lay(item, test.pairs[pair].texts[choice - 1]);
    return item;
  }));
  window.scrollTo(0, 0);
  $("score").focus({ preventScroll: true });
}

$("begin").addEventListener("submit", (event) => {
  event.preventDefault();
  state = { who: $("who").value.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "").trim(), begun: true, answers: [] };
  keep();
  next();
});
$("choose-1").addEventListener("click", () => choose(1));
$("choose-2").addEventListener("click", () => choose(2));
$("skip").addEventListener("click", () => choose(0));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const choice = { 1: 1, 2: 2, s: 0, S: 0 }[event.key];
  if (choice !== undefined) choose(choice);
});
$("copy").addEventListener("click", async () => {
  $("json").select();
  let done = false;
  try {
    await navigator.clipboard.writeText($("json").value);
    done = true;
  } catch {
    done = document.execCommand("copy");
  }
  $("copied").textContent = done ? "Copied." : "Select the text and copy it.";
});
$("again").addEventListener("click", () => {
  state = { who: "", begun: false, answers: [] };
  keep();
  $("who").value = $("copied").textContent = $("told").textContent = "";
  show("intro");
  $("who").focus();
});

$("number").textContent = total;
recall();
if (state.begun) next();
else show("intro");
