"use strict";
// The first video of a row leads; the others follow it. Rows play while they are on screen.
const DRIFT_S = 0.04;
const HOLD_MS = 900;  // on the last frame, where an edit is complete, before the loop starts again
const rateChoice = document.getElementById("rate");
const allButton = document.getElementById("all");
const rows = [...document.querySelectorAll(".row")].map(makeRow);
let current = 0;
let allPlaying = !matchMedia("(prefers-reduced-motion: reduce)").matches;

function makeRow(element) {
  const videos = [...element.querySelectorAll("video")];
  const row = {
    element, videos, leader: videos[0], frame: 1 / Number(element.dataset.fps),
    seek: element.querySelector(".seek"), time: element.querySelector(".time"), button: element.querySelector(".play"),
    wanted: true, visible: false, playing: false,
  };
  if (!row.leader) return row;
  row.button.addEventListener("click", () => { row.wanted = !row.playing; row.wanted ? play(row) : pause(row); });
  row.seek.addEventListener("input", () => { hold(row); goTo(row, row.seek.value * duration(row)); });
  row.leader.addEventListener("ended", () => setTimeout(() => {
    if (!row.playing || !row.leader.ended) return;
    goTo(row, 0);
    play(row);
  }, HOLD_MS));
  row.leader.addEventListener("timeupdate", () => show(row));
  return row;
}

function duration(row) { return row.leader.duration || 1; }

function load(row) {
  for (const video of row.videos) if (video.preload !== "auto") video.preload = "auto";
}

function play(row) {
  if (!row.leader) return;
  load(row);
  row.playing = true;
  row.button.textContent = "❚❚";
  for (const video of row.videos) {
    video.playbackRate = Number(rateChoice.value);
    video.play().catch(() => {});
  }
}

function pause(row) {
  if (!row.leader) return;
  row.playing = false;
  row.button.textContent = "▶";
  for (const video of row.videos) video.pause();
  goTo(row, row.leader.currentTime);
}

function hold(row) { row.wanted = false; if (row.playing) pause(row); }

function goTo(row, seconds) {
  load(row);
  for (const video of row.videos) video.currentTime = Math.min(Math.max(seconds, 0), duration(row));
  show(row);
}

function step(row, frames) {
  hold(row);
  // To the middle of a frame, so that rounding cannot show its neighbour.
  const index = Math.floor(row.leader.currentTime / row.frame + 1e-3) + frames;
  const last = Math.max(Math.round(duration(row) / row.frame) - 1, 0);
  goTo(row, (Math.min(Math.max(index, 0), last) + 0.5) * row.frame);
}

function show(row) {
  row.seek.value = row.leader.currentTime / duration(row);
  row.time.textContent = `${row.leader.currentTime.toFixed(2)} s`;
}

function keepInStep() {
  for (const row of rows) {
    if (!row.playing) continue;
    show(row);
    for (const video of row.videos.slice(1)) {
      if (Math.abs(video.currentTime - row.leader.currentTime) > DRIFT_S) video.currentTime = row.leader.currentTime;
      if (video.paused && !video.ended && !row.leader.paused) video.play().catch(() => {});
    }
  }
  requestAnimationFrame(keepInStep);
}

function playAll(shouldPlay) {
  allPlaying = shouldPlay;
  allButton.textContent = shouldPlay ? "Pause all" : "Play all";
  for (const row of rows) {
    row.wanted = shouldPlay;
    if (shouldPlay && row.visible) play(row); else pause(row);
  }
}

function setRate(value) {
  rateChoice.value = value;
  for (const row of rows) for (const video of row.videos) video.playbackRate = Number(value);
}

function changeRate(direction) {
  const index = rateChoice.selectedIndex + direction;
  if (rateChoice.options[index]) setRate(rateChoice.options[index].value);
}

function select(index, scroll) {
  rows[current]?.element.classList.remove("current");
  current = Math.min(Math.max(index, 0), rows.length - 1);
  rows[current].element.classList.add("current");
  if (scroll) rows[current].element.scrollIntoView({ block: "center", behavior: "smooth" });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input, summary, button, a")) return;
  const row = rows[current];
  const actions = {
    " ": () => row.leader && (row.playing ? hold(row) : ((row.wanted = true), play(row))),
    ArrowLeft: () => row.leader && step(row, -1),
    ArrowRight: () => row.leader && step(row, 1),
    ArrowUp: () => select(current - 1, true),
    ArrowDown: () => select(current + 1, true),
    "+": () => changeRate(1),
    "=": () => changeRate(1),
    "-": () => changeRate(-1),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const row = rows.find((candidate) => candidate.element === entry.target);
    row.visible = entry.isIntersecting;
    if (!row.visible) { if (row.playing) pause(row); } else if (row.wanted && allPlaying) play(row); else if (row.leader) load(row);
  }
}, { rootMargin: "100px" });

rows.forEach((row, index) => {
  observer.observe(row.element);
  row.element.addEventListener("pointerdown", () => select(index, false));
  row.element.addEventListener("focusin", () => select(index, false));
});
allButton.addEventListener("click", () => playAll(!allPlaying));
allButton.textContent = allPlaying ? "Pause all" : "Play all";
rateChoice.addEventListener("change", () => setRate(rateChoice.value));
document.addEventListener("keydown", onKey);
if (rows.length) select(0, false);
requestAnimationFrame(keepInStep);
