"use strict";
// Plays the videos of a row in step: the first one leads, the others follow it. Rows play while they are on screen.
// The page that uses it makes `rows` with makeRow and calls start(); rows may fill and clear themselves.
const DRIFT_S = 0.04;
const HOLD_MS = 900;  // on the last frame, where an edit is complete, before the loop starts again
const rateChoice = document.getElementById("rate");
const allButton = document.getElementById("all");
let current = 0;
let allPlaying = !matchMedia("(prefers-reduced-motion: reduce)").matches;

function makeRow(element) {
  return { element, videos: [], wanted: true, visible: false, playing: false, fill() {}, clear() {} };
}

// Finds a row's videos and controls; called when they are in the page.
function connect(row) {
  const element = row.element;
  row.videos = [...element.querySelectorAll("video")];
  connectView(row);
  row.leader = row.videos[0];
  if (!row.leader) return row;
  row.frame = 1 / Number(element.dataset.fps);
  row.seek = element.querySelector(".seek");
  row.time = element.querySelector(".time");
  row.button = element.querySelector(".play");
  row.button.addEventListener("click", () => { row.wanted = !row.playing; row.wanted ? play(row) : pause(row); });
  row.seek.addEventListener("input", () => { hold(row); goTo(row, row.seek.value * duration(row)); });
  const leader = row.leader;  // a row that was cleared has none, or another one
  leader.addEventListener("ended", () => setTimeout(() => {
    if (!row.playing || row.leader !== leader || !leader.ended) return;
    goTo(row, 0);
    play(row);
  }, HOLD_MS));
  leader.addEventListener("timeupdate", () => { if (row.leader === leader) show(row); });
  return row;
}

// The two ways to see a row larger. Not every browser, a phone's least of all, lets a part of a page fill the screen.
function connectView(row) {
  const larger = row.element.querySelector(".enlarge"), full = row.element.querySelector(".full-screen");
  if (!larger) return;
  larger.setAttribute("aria-pressed", row.element.classList.contains("enlarged"));
  larger.addEventListener("click", () => enlarge(row));
  full.hidden = !document.fullscreenEnabled;
  full.addEventListener("click", () => fillScreen(row));
}

function enlarge(row) {
  const isLarge = row.element.classList.toggle("enlarged");
  row.element.querySelector(".enlarge")?.setAttribute("aria-pressed", isLarge);
}

function fillScreen(row) {
  if (document.fullscreenElement) document.exitFullscreen(); else row.element.requestFullscreen().catch(() => {});
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
  current = index;
  rows[current].element.classList.add("current");
  // To the top and at once: rows below and above may still change their height.
  if (scroll) rows[current].element.scrollIntoView({ block: "start" });
}

// The next row that no filter hides, in the direction of `by`; the same one at the end.
function selectNext(by) {
  let index = current + by;
  while (rows[index]?.element.hidden) index += by;
  if (rows[index]) select(index, true);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input, summary, button, a")) return;
  const row = rows[current];
  const actions = {
    " ": () => row.leader && (row.playing ? hold(row) : ((row.wanted = true), play(row))),
    ArrowLeft: () => row.leader && step(row, -1),
    ArrowRight: () => row.leader && step(row, 1),
    ArrowUp: () => selectNext(-1),
    ArrowDown: () => selectNext(1),
    "+": () => changeRate(1),
    "=": () => changeRate(1),
    "-": () => changeRate(-1),
    e: () => enlarge(row),
    f: () => document.fullscreenEnabled && fillScreen(row),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

function onScreen(row) {
  if (!row.visible) row.fill();
  row.visible = true;
  if (row.wanted && allPlaying) play(row); else if (row.leader) load(row);
}

function offScreen(row) {
  if (row.playing) pause(row);
  if (row.visible) row.clear();
  row.visible = false;
}

function start() {
  const found = new Map(rows.map((row) => [row.element, row]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) (entry.isIntersecting ? onScreen : offScreen)(found.get(entry.target));
  }, { rootMargin: "100px" });
  for (const row of rows) {
    observer.observe(row.element);
    for (const event of ["pointerdown", "focusin"]) row.element.addEventListener(event, () => select(rows.indexOf(row), false));
  }
  allButton.addEventListener("click", () => playAll(!allPlaying));
  allButton.textContent = allPlaying ? "Pause all" : "Play all";
  rateChoice.addEventListener("change", () => setRate(rateChoice.value));
  document.addEventListener("keydown", onKey);
  if (rows.length) select(0, false);
  requestAnimationFrame(keepInStep);
}
