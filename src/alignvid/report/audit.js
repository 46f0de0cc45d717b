"use strict";
// One question at a time. Answers are kept in the browser, where it allows that, until they are saved to a file.
const items = JSON.parse(document.getElementById("items").textContent);
const store = `alignvid audit ${document.getElementById("card").dataset.draw}`;
const byId = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("[data-answer]")];
const answers = recall();
let current = Math.max(items.findIndex((item) => !answers[name(item)]), 0);

function name(item) { return JSON.stringify([item.job, item.question]); }

function recall() {
  try { return JSON.parse(localStorage.getItem(store)) || {}; } catch { return {}; }
}

function keep() {
  try { localStorage.setItem(store, JSON.stringify(answers)); } catch { /* private window: the file is all there is */ }
}

function show(index) {
  if (!items.length) { byId("question").textContent = "There is nothing to audit."; return; }
  current = Math.min(Math.max(index, 0), items.length - 1);
  const item = items[current];
  const video = byId("video");
  const isPicture = item.video.endsWith(".png");  // shown as its poster
  if (isPicture) { video.removeAttribute("src"); video.load(); video.poster = item.video; }
  else if (video.getAttribute("src") !== item.video) { video.removeAttribute("poster"); video.src = item.video; }
  video.controls = !isPicture;
  video.classList.toggle("pixel-art", item.isPixelArt);
  byId("question").textContent = item.text;
  byId("place").textContent = `Question ${current + 1} of ${items.length}`;
  mark();
}

function mark() {
  const count = items.filter((item) => answers[name(item)]).length;
  for (const button of buttons) {
    button.setAttribute("aria-pressed", String(answers[name(items[current])] === button.dataset.answer));
  }
  byId("done").textContent = `· ${count} answered`;
  byId("progress").value = count;
  byId("back").disabled = current === 0;
  byId("next").disabled = current === items.length - 1;
}

function answer(value) {
  if (!items.length) return;
  answers[name(items[current])] = value;
  keep();
  show(current + 1);
}

function rows() {
  return items.filter((item) => answers[name(item)])
    .map((item) => ({ job: item.job, question: item.question, answer: answers[name(item)] }));
}

function save(file, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  byId("saved").textContent = `${rows().length} answers in ${file}`;
}

function csv() {
  const cell = (text) => `"${text.replaceAll('"', '""')}"`;
  const lines = rows().map((row) => [row.job, row.question, row.answer].map(cell).join(","));
  return ["job,question,answer", ...lines, ""].join("\n");
}

function togglePlay() {
  const video = byId("video");
  video.paused ? video.play().catch(() => {}) : video.pause();
}

const keys = {
  y: () => answer("yes"), n: () => answer("no"), u: () => answer("unclear"),
  ArrowLeft: () => show(current - 1), ArrowRight: () => show(current + 1), " ": togglePlay,
};
document.addEventListener("keydown", (event) => {
  const act = keys[event.key] || keys[event.key.toLowerCase()];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});
for (const button of buttons) button.addEventListener("click", () => answer(button.dataset.answer));
byId("back").addEventListener("click", () => show(current - 1));
byId("next").addEventListener("click", () => show(current + 1));
byId("save-json").addEventListener("click", () =>
  save("audit-answers.json", "application/json", JSON.stringify({ schema_version: 1, answers: rows() }, null, 1)));
byId("save-csv").addEventListener("click", () => save("audit-answers.csv", "text/csv", csv()));
show(current);
