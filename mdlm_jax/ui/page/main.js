/** The page: what the server says goes to the paper, what a reader asks for goes to the server. */
import { Decoder } from "./decode.js";
import { find, percent } from "./dom.js";
import * as form from "./form.js";
import { History } from "./history.js";
import { Link } from "./link.js";
import { Panel } from "./panel.js";
import { Paper } from "./paper.js";
import { Player } from "./player.js";
import { Strip } from "./strip.js";
import { list } from "./texts.js";

const histories = new Map(); // of each trajectory seen
let hello = null;
let decoder = null;
let current = null; // the history on the page
let trajectories = [];
let asked = null; // the trajectory that this page asked for last
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
    ended: () => history && end(history, message),
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
  histories.clear(); // it may be another server, with other texts by these numbers
  if (current && !current.ended) histories.set(current.id, current);
  hello = message;
  decoder = new Decoder(hello.pieces);
  if (!again) form.build(hello);
  find("title").textContent = hello.name;
  find("link").textContent = "";
  document.title = `${hello.name}: watch it write`;
  find("write").disabled = false;
  if (again) say("Connected again.");
  renewTexts(hello.trajectories);
  const known = trajectories.some(({ id }) => id === current?.id);
  if (current && !known) current.ended ??= { state: "stopped", seconds: 0 };
  if (known && !current.ended) link.send({ type: "follow", trajectory: current.id, from: current.head });
  else if (!current && trajectories.length) follow(trajectories.at(-1).id);
}

/** A text begins, or is followed from the start; or one that was followed before goes on. */
function begin(message) {
  const old = histories.get(message.trajectory);
  const same = old && old.seed === message.seed && String(old.begun.tokens) === String(message.tokens);
  if (!same) histories.set(message.trajectory, new History(message, hello.special.mask));
  if (!same && old) link.send({ type: "follow", trajectory: message.trajectory, from: 0 });
  const history = histories.get(message.trajectory);
  if (history !== current) open(history, true);
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

function end(history, message) {
  history.ended = message;
  if (message.message) complain(message.message);
  const ends = { done: "Written", stopped: "Stopped", failed: "Failed" };
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
  const state = ended ? `${ends[ended.state]} ${ended.seconds.toFixed(1)} s` : "being written";
  const facts = [`step ${step} of ${steps}`, `${written} of ${length} tokens`, state];
  if (base) facts.push(`the first ${base} steps came merged`);
  find("status").textContent = facts.join(" · ");
  find("step").textContent = step || "";
  const scrub = find("scrub");
  Object.assign(scrub, { min: base, max: head, value: step, ariaValueText: `step ${step} of ${head}` });
  find("play").textContent = player.playing ? "Pause" : "Play";
  find("back").disabled = find("first").disabled = step === base;
  find("forward").disabled = find("last").disabled = step === head;
  strip.open(current);
  let told = `Heat strip: ${length} places across, ${head - base} steps down.`;
  const sure = (delta?.confidence ?? []).filter((_, j) => !delta.masked[j]);
  if (sure.length) {
    const mean = sure.reduce((sum, p) => sum + p, 0) / sure.length;
    told += ` Step ${step} wrote ${sure.length} with a mean probability of ${percent(mean)}.`;
  }
  find("strip").ariaLabel = told;
  if (find("plain").open) find("plain-text").textContent = decoder.text(current.tokens, current.masked);
}

function renewTexts(listed) {
  trajectories = listed;
  list(trajectories, current?.id ?? null, follow);
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
  const step = current.step;
  ask({ type: "branch", of: current.id, step, ...what, options: form.options(true) });
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
