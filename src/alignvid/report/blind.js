"use strict";
// One pair at a time, two questions about each. Answers are kept in the browser, where it allows that, until they are
// saved to a file.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const pairs = read("pairs"), questions = read("questions");
const byId = (id) => document.getElementById(id);
const page = byId("card").dataset.page;
const store = `alignvid trial ${page}`;
const buttons = [...document.querySelectorAll("[data-side]")];
const clips = [byId("left"), byId("right")];
const names = ["follows", "apart"];
const HOLD_MS = 700;  // on the last frame, where an edit is complete
const answers = recall();
let current = Math.max(pairs.findIndex((pair) => !isDone(pair)), 0), asked = 0, wanted = true;

function recall() {
  try { return JSON.parse(localStorage.getItem(store)) || {}; } catch { return {}; }
}

function keep() {
  try { localStorage.setItem(store, JSON.stringify(answers)); } catch { /* private window: the file is all there is */ }
}

function isDone(pair) { return names.every((name) => answers[pair.number]?.[name]); }

function show(index, question = 0) {
  if (!pairs.length) { byId("question").textContent = "There is no pair to compare."; return; }
  const changed = index !== current || !clips[0].src;
  current = Math.min(Math.max(index, 0), pairs.length - 1);
  asked = question;
  const pair = pairs[current];
  if (changed) load(pair);
  byId("prompt").textContent = pair.prompt;
  byId("place").textContent = `Pair ${current + 1} of ${pairs.length}`;
  byId("question").textContent = questions[asked];
  for (const button of buttons) {
    button.setAttribute("aria-pressed", String(answers[pair.number]?.[names[asked]] === button.dataset.side));
  }
  const count = pairs.filter(isDone).length;
  byId("done").textContent = `· ${count} answered`;
  byId("progress").value = count;
  byId("back").disabled = current === 0 && asked === 0;
  byId("next").disabled = current === pairs.length - 1 && asked === 1;
}

function load(pair) {
  byId("picture").src = pair.picture;
  clips.forEach((clip, index) => {
    clip.src = index ? pair.right : pair.left;
    clip.classList.toggle("pixel-art", pair.isPixelArt);
  });
  byId("picture").classList.toggle("pixel-art", pair.isPixelArt);
  if (wanted) restart();
}

function restart() {
  for (const clip of clips) { clip.currentTime = 0; clip.play().catch(() => {}); }
}

// Both begin anew together, once both have ended.
for (const clip of clips) clip.addEventListener("ended", () => {
  if (wanted && clips.every((one) => one.ended)) setTimeout(() => { if (wanted && clips.every((one) => one.ended)) restart(); }, HOLD_MS);
});

function togglePlay() {
  wanted = !wanted;
  wanted ? restart() : clips.forEach((clip) => clip.pause());
}

function answer(side) {
  if (!pairs.length) return;
  const number = pairs[current].number;
  answers[number] = { ...answers[number], [names[asked]]: side };
  keep();
  move(1);
}

function move(step) {
  const place = Math.min(Math.max(2 * current + asked + step, 0), 2 * pairs.length - 1);
  show(Math.floor(place / 2), place % 2);
}

function save() {
  const rows = pairs.filter(isDone).map((pair) => ({ pair: pair.number, ...answers[pair.number] }));
  const text = JSON.stringify({ schema_version: 1, page, answers: rows }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "trial-answers.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  byId("saved").textContent = `${rows.length} pairs in ${link.download}`;
}

const keys = {
  ArrowLeft: () => answer("left"), ArrowRight: () => answer("right"), ArrowDown: () => answer("same"),
  b: () => move(-1), n: () => move(1), s: save, " ": togglePlay,
};
document.addEventListener("keydown", (event) => {
  const act = keys[event.key] || keys[event.key.toLowerCase()];
  if (!act || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  event.preventDefault();
  act();
});
for (const button of buttons) button.addEventListener("click", () => answer(button.dataset.side));
byId("back").addEventListener("click", () => move(-1));
byId("next").addEventListener("click", () => move(1));
byId("play").addEventListener("click", togglePlay);
byId("save").addEventListener("click", save);
show(current);
