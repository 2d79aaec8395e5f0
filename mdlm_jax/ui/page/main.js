/** The page: what the server says goes to the paper, what a reader asks for goes to the server. */
import { Decoder } from "./decode.js";
import { find, percent } from "./dom.js";
import * as form from "./form.js";
import { History } from "./history.js";
import { Link } from "./link.js";
import { LOST, Panel } from "./panel.js";
import { Paper } from "./paper.js";
import { Player } from "./player.js";
import { Strip } from "./strip.js";
import { list } from "./texts.js";

const histories = new Map(); // of each trajectory seen that the server still has, and the current one
let hello = null;
let decoder = null;
let current = null; // the history on the page
let trajectories = [];
let asked = null; // the trajectory that this page follows, or waits for
let news = 0; // the frame in which what was heard last is told
let clicked = false; // something was asked for, and the server did not answer yet
let timed = null; // the trajectory of which the first token is still to be painted

const paper = new Paper(find("text"));
const strip = new Strip(find("strip"));
const player = new Player(show);
const panel = new Panel(find("panel"), paper, branch);
const link = new Link(hear, lose);

function say(text) {
  find("say").textContent = text;
}

function complain(text) {
  find("error").textContent = text;
}

function lose() {
  find("link").textContent = `${hello ? "The connection was lost" : "There is no connection"}; trying again …`;
  if (!find("write").disabled) say("The connection was lost. What was written stays.");
  find("write").disabled = true;
}

function hear(message) {
  const history = histories.get(message.trajectory);
  const answers = {
    hello: () => greet(message),
    trajectories: () => renewTexts(message.trajectories),
    following: () => {
      asked = message.trajectory;
      if (clicked) timed = asked;
      clicked = false;
    },
    begun: () => begin(message),
    deltas: () => history?.append(message.from, message.deltas),
    snapshot: () => history?.snapshot(message) && history === current && show(null),
    ended: () => end(history, message),
    error: () => {
      complain(message.message);
      clicked = false;
    },
  };
  answers[message.type]?.();
  if (history && history === current) {
    player.wake();
    news ||= requestAnimationFrame(about);
  }
}

function greet(message) {
  const again = hello;
  if (again && again.server !== message.server) forget();
  hello = message;
  decoder = new Decoder(hello.pieces);
  if (!again) form.build(hello);
  find("title").textContent = hello.name;
  find("link").textContent = "";
  document.title = `${hello.name}: watch it write`;
  find("write").disabled = false;
  if (again) say("Connected again.");
  renewTexts(hello.trajectories);
  const there = (number) => trajectories.some(({ id }) => id === number);
  if (current && !there(current.id)) current.ended ??= { state: "lost" };
  const known = histories.get(asked);
  if (there(asked) && !known?.ended) link.send({ type: "follow", trajectory: asked, from: known?.head ?? 0 });
  else if (!current && trajectories.length) follow(trajectories.at(-1).id);
  if (!current) return;
  about();
  panel.renew();
}

/** The server is another, with other texts by the same numbers: what is on the page stays, to be read. */
function forget() {
  histories.clear();
  asked = timed = null;
  if (!current) return;
  current.lost = true;
  current.ended ??= { state: "lost" };
  player.wake();
}

/** A text begins, or is followed from the start; or one that was followed before goes on. */
function begin(message) {
  if (histories.has(message.trajectory)) return;
  const history = new History(message, hello.special.mask);
  histories.set(history.id, history);
  open(history, true);
  const page = find("page");
  const below = page.getBoundingClientRect().top > innerHeight / 2; // a narrow window has the form above it
  if (timed === history.id && below) page.scrollIntoView();
}

function open(history, playing) {
  current = history;
  find("empty").hidden = true;
  find("text").hidden = find("time").hidden = false;
  panel.close();
  player.open(history, playing);
  renewTexts(trajectories);
}

/** A text ends, perhaps before it began: then there is no history of it. */
function end(history, message) {
  if (history) history.ended = message;
  if (history === current && message.state === "stopped" && player.playing) player.go(history.head);
  if (message.message) complain(message.message);
  const ends = { done: "Written", stopped: "Stopped", failed: "Failed" };
  if (!history) return say(`${ends[message.state]}.`);
  say(`${ends[message.state]}: ${history.length} tokens in ${message.seconds.toFixed(1)} seconds.`);
}

/** Draws the places that changed, or everything. */
function show(changed) {
  if (changed && paper.history === current) paper.draw(changed);
  else if (paper.history === current) paper.draw(current.tokens.keys());
  else paper.open(current, decoder);
  if (timed === current.id && current.step > current.base) {
    timed = null;
    requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("mdlm:painted")));
  }
  about();
  panel.renew();
}

/** What is said beside the text of the step shown. */
function about() {
  news = 0;
  const { base, head, step, length, written, ended } = current;
  const delta = current.delta(step);
  const steps = ended ? head : Math.max(head, delta?.num_steps ?? 0);
  const ends = { done: "finished in", stopped: "stopped after", failed: "failed after" };
  const lost = current.lost ? "the server was started again" : "the server has forgotten it";
  const told = ended?.state === "lost" ? lost : ended && `${ends[ended.state]} ${ended.seconds.toFixed(1)} s`;
  const facts = [`step ${step} of ${steps}`, `${written} of ${length} tokens`, told ?? "being written"];
  if (base) facts.push(`the first ${base} steps came merged`);
  find("status").textContent = facts.join(" · ");
  find("step").textContent = step || "";
  const scrub = find("scrub");
  Object.assign(scrub, { min: base, max: head, value: step, ariaValueText: `step ${step} of ${head}` });
  find("play").textContent = player.playing ? "Pause" : "Play";
  find("back").disabled = find("first").disabled = step === base;
  find("forward").disabled = find("last").disabled = step === head;
  strip.open(current);
  let drawn = `Heat strip: ${length} places across, ${head - base} steps down.`;
  const sure = (delta?.confidence ?? []).filter((_, j) => !delta.masked[j]);
  if (sure.length) {
    const mean = sure.reduce((sum, p) => sum + p, 0) / sure.length;
    drawn += ` Step ${step} wrote ${sure.length} with a mean probability of ${percent(mean)}.`;
  }
  find("strip").ariaLabel = drawn;
  if (find("plain").open) find("plain-text").textContent = paper.decoder.text(current.tokens, current.masked);
}

function renewTexts(listed) {
  trajectories = listed;
  const shown = current?.lost ? null : current;
  const kept = new Set([shown?.id, ...trajectories.map(({ id }) => id)]);
  for (const id of histories.keys()) if (!kept.has(id)) histories.delete(id);
  list(trajectories, shown?.id ?? null, follow);
  const mine = trajectories.find(({ id }) => id === asked);
  find("stop").disabled = !["queued", "running"].includes(mine?.state);
  const place = mine?.state === "queued" ? `Waiting: place ${mine.position} in the queue.` : "";
  if (find("queue").textContent !== place) find("queue").textContent = place;
}

/** Shows a text of the list: what is here already, or what the server still has to say of it. */
function follow(id) {
  if (histories.get(id)?.ended && histories.get(id).base) histories.delete(id); // now all of it can be had
  const known = histories.get(id);
  if (known) open(known, !known.ended);
  if (!known?.ended) complain(link.send({ type: "follow", trajectory: id, from: known?.head ?? 0 }));
}

function branch(what) {
  const { step, lost } = current;
  if (lost) complain(LOST);
  else ask({ type: "branch", of: current.id, step, ...what, options: form.options(true) });
}

function ask(message) {
  performance.mark("mdlm:click");
  const wrong = link.send(message);
  complain(wrong);
  if (wrong) return;
  clicked = true;
  form.nextSeed();
}

find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask({ type: "write", options: form.options() });
});
find("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("form").requestSubmit();
  if (event.key === "Escape") find("text").querySelector("[tabindex='0']")?.focus();
});
find("stop").onclick = () => complain(link.send({ type: "stop", trajectory: asked }));
find("gap").onchange = () => { find("gap-count").hidden = find("gap").value !== "count"; };
find("gap-make").onclick = () => complain(form.maskSelection());

find("play").onclick = () => player.toggle();
find("first").onclick = () => player.go(current.base);
find("last").onclick = () => player.go(current.head);
find("back").onclick = () => player.go(current.step - 1);
find("forward").onclick = () => player.go(current.step + 1);
find("scrub").oninput = () => player.go(Number(find("scrub").value));
find("strip").onclick = (event) => player.go(strip.at(event.offsetY));
find("speed").onchange = () => { player.rate = Number(find("speed").value); };
for (const radio of document.querySelectorAll("[name=view]")) {
  radio.onchange = () => {
    document.body.dataset.view = radio.value;
    strip.draw(true);
  };
}
find("plain").ontoggle = () => current && about();
find("copy").onclick = async () => {
  await navigator.clipboard.writeText(find("plain-text").textContent);
  say("Copied.");
};
paper.addEventListener("cursor", () => panel.renew());
paper.addEventListener("leave", () => panel.close());
paper.addEventListener("open", (event) => panel.open(event.detail));

const dark = matchMedia("(prefers-color-scheme: dark)");
function theme(flip = false) {
  const root = document.documentElement;
  const now = root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const other = { dark: "light", light: "dark" };
  if (flip) root.dataset.theme = other[now];
  find("theme").textContent = (flip ? now : other[now]) === "dark" ? "Dark" : "Light";
  strip.draw(true);
}
dark.onchange = () => theme();
find("theme").onclick = () => theme(true);
find("help-open").onclick = () => find("help").showModal();
find("help-close").onclick = () => find("help").close();
theme();

addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (!find("keys").checked || event.ctrlKey || event.metaKey || event.altKey || find("help").open) return;
  if (target.closest("input, textarea, select, pre")) return;
  if (key === " " && target.closest("button, summary")) return;
  const keys = {
    "?": () => find("help").showModal(),
    " ": () => player.toggle(),
    ",": () => player.go(current.step - 1),
    ".": () => player.go(current.step + 1),
    m: () => {
      const [start, stop] = paper.selection;
      branch({ start, stop, length: stop - start, token: null });
    },
  };
  if (!(key in keys) || (key !== "?" && !current)) return;
  if (key === "m" && !target.closest("#text")) return;
  event.preventDefault();
  keys[key]();
});
