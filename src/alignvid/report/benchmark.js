// The gallery of a benchmark: one section per sample, filled from GALLERY while it is on screen and emptied when it is
// not, because a browser plays some dozens of videos at a time and not thousands. Texts go in as text, never as markup.
const MARKS = { right: "✓", wrong: "✗", unparsed: "?", failed: "!", unasked: "·", missing: "–" };
const ROW_HEIGHT_PX = 460;  // of a row that was never filled
const PREFIX = "at-";  // a sample may have the name of a control
const SEARCH_PAUSE_MS = 120;
const list = document.getElementById("samples");
const choice = (id) => document.getElementById(id);
const entries = GALLERY.samples.map((sample) => ({ sample, text: searchText(sample) }));
const rows = entries.map(({ sample }) => sampleRow(sample));
const first = 0;  // the variant that others are compared with

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function sampleRow(sample) {
  const element = make("section", { className: "row", id: PREFIX + sample.id, tabIndex: 0 });
  element.setAttribute("aria-label", sample.id);
  element.style.minHeight = `${ROW_HEIGHT_PX}px`;
  const row = makeRow(element);
  row.fill = () => fill(row, sample);
  row.clear = () => clear(row);
  return row;
}

function fill(row, sample) {
  row.element.replaceChildren(heading(sample), about(sample), clips(sample), ...controls(sample), questions(sample));
  row.element.style.minHeight = "";
  row.element.dataset.fps = shownVideos(sample).find((video) => video.file)?.fps ?? 1;
  connect(row);
}

function clear(row) {
  row.element.style.minHeight = `${row.element.offsetHeight}px`;
  for (const video of row.videos) { video.removeAttribute("src"); video.load(); }  // gives its decoder back
  row.videos = [];
  row.leader = undefined;
  row.element.replaceChildren();
}

function seedIndex() { return Number(choice("seed").value); }
function otherVariant() { return Number(choice("against").value); }
function columns() {
  const chosen = [...document.getElementsByName("column")].filter((box) => box.checked).map((box) => Number(box.value));
  return choice("columns") ? chosen : GALLERY.variants.map((_, variant) => variant);
}
function shownVideos(sample) { return columns().map((variant) => sample.videos[variant][seedIndex()]); }
function answersOf(sample, variant) { return sample.answers[variant][seedIndex()]; }

function heading(sample) {
  return make("h2", {}, make("a", { href: `#${encodeURIComponent(PREFIX + sample.id)}`, textContent: sample.id }),
    make("span", { className: "prompt", textContent: sample.prompt }));
}

function about(sample) {
  const groups = [sample.main_category, sample.sub_category, sample.domain].join(" · ");
  return make("p", { className: "note", textContent: `${groups} — expected: ${sample.expected_change}` });
}

function clips(sample) {
  const figures = columns().map((variant) => clip(sample, sample.videos[variant][seedIndex()], variant));
  return make("div", { className: `clips${figures.length > 1 ? " pair" : ""}` },
    ...(sample.image ? [reference(sample)] : []), ...figures);
}

function figure(size, picture, ...caption) {
  const element = make("figure", { className: "clip" }, picture, make("figcaption", {}, ...caption));
  element.style.setProperty("--aspect", size.width / size.height);
  element.classList.toggle("pixel-art", size.height < GALLERY.pixel_art_below);
  return element;
}

function reference(sample) {
  const image = make("img", { src: sample.image, alt: "reference image", loading: "lazy" });
  const element = figure(sample, image, make("span", { className: "label", textContent: "reference" }));
  element.classList.add("reference");
  return element;
}

function clip(sample, video, variant) {
  const label = make("span", { className: "label", textContent: GALLERY.variants[variant] });
  if (!video.file) {
    const why = make("div", { className: "no-video", textContent: video.error });
    return figure(sample, why, label);
  }
  if (video.file.endsWith(".png")) {
    const picture = make("img", { src: video.file, alt: GALLERY.variants[variant], loading: "lazy" });
    return figure(video, picture, label, score(sample, variant));
  }
  const element = make("video", { src: video.file, muted: true, playsInline: true, preload: "none" });
  element.setAttribute("aria-label", GALLERY.variants[variant]);
  return figure(video, element, label, score(sample, variant));
}

function score(sample, variant) {
  const outcomes = answersOf(sample, variant).map((answer) => answer.outcome);
  const right = outcomes.filter((outcome) => outcome === "right").length;
  return make("span", { className: "share", textContent: `${right} of ${outcomes.length} right` });
}

function controls(sample) {
  const files = shownVideos(sample).map((video) => video.file).filter(Boolean);
  if (!files.length) return [];
  const larger = make("button", { type: "button", className: "enlarge", textContent: "Enlarge" });
  const full = make("button", { type: "button", className: "full-screen", textContent: "Full screen" });
  const play = make("button", { type: "button", className: "play", textContent: "▶", title: "Play or pause this row" });
  play.setAttribute("aria-label", "Play or pause this row");
  const seek = make("input", { type: "range", className: "seek", min: 0, max: 1, step: "any", value: 0 });
  seek.setAttribute("aria-label", "Position");
  const time = make("output", { className: "time", textContent: "0.00 s" });
  const playback = files.every((file) => file.endsWith(".png")) ? [] : [make("div", { className: "playback" }, play, seek, time)];
  return [make("div", { className: "controls" }, ...playback, larger, full)];
}

function questions(sample) {
  const shown = columns();
  const titles = ["question", "expected", ...shown.map((variant) => GALLERY.variants[variant])].map((text) => make("th", { textContent: text }));
  const body = sample.questions.map((question, index) => make("tr", {},
    make("td", {}, question.question, " ", make("span", { className: "label", textContent: question.category })),
    make("td", { textContent: question.expected_answer }),
    ...shown.map((variant) => verdictCell(answersOf(sample, variant)[index])),
  ));
  const table = make("table", { className: "questions" }, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...body));
  return make("div", { className: "wide" }, table);
}

function verdictCell(answer) {
  const p = answer.p_yes === undefined ? "" : ` ${answer.p_yes.toFixed(2)}`;
  const verdict = make("span", { className: `verdict ${answer.outcome}`, textContent: `${MARKS[answer.outcome]} ${answer.said}${p}` });
  if (!answer.reply) return make("td", {}, verdict);
  return make("td", {}, make("details", {}, make("summary", {}, verdict), make("p", { textContent: answer.reply })));
}

function searchText(sample) {
  const asked = sample.questions.map((question) => question.question);
  return [sample.id, sample.prompt, sample.expected_change, ...asked].join("\n").toLowerCase();
}

// How many questions turned from not right to right, and back, between the first variant and the chosen one.
function flips(sample) {
  const before = answersOf(sample, first), after = answersOf(sample, otherVariant());
  const count = (was, is) => before.filter((answer, index) => told(answer) && told(after[index])
    && (answer.outcome === "right") === was && (after[index].outcome === "right") === is).length;
  return { up: count(false, true), down: count(true, false) };
}

function told(answer) { return ["right", "wrong", "unparsed"].includes(answer.outcome); }

function gain(sample) {
  const { up, down } = flips(sample);
  return (up - down) / Math.max(sample.questions.length, 1);
}

function matchesOutcome(sample, wanted) {
  if (wanted === "") return true;
  if (wanted === "up" || wanted === "down") return flips(sample)[wanted] > 0;
  const states = { unparsed: ["unparsed"], failed: ["failed", "unasked"], missing: ["missing"] }[wanted];
  return sample.answers.some((seeds) => seeds[seedIndex()].some((answer) => states.includes(answer.outcome)));
}

function matches({ sample, text }) {
  const words = choice("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => text.includes(word))
    && ["main_category", "sub_category", "domain"].every((name) => ["", sample[name]].includes(choice(name).value))
    && (choice("question_category").value === ""
      || sample.questions.some((question) => question.category === choice("question_category").value))
    && matchesOutcome(sample, choice("outcome").value);
}

function filter() {
  let shown = 0;
  entries.forEach((entry, index) => {
    const isShown = matches(entry);
    rows[index].element.hidden = !isShown;
    shown += isShown;
  });
  choice("shown").textContent = `${shown} of ${rows.length} samples`;
  choice("nothing").hidden = shown > 0;
  if (rows[current].element.hidden) select(Math.max(rows.findIndex((row) => !row.element.hidden), 0), false);
}

// Sections move in the page; `rows` follows, so that up and down go by what is seen.
function sort() {
  const order = entries.map((entry, index) => ({ entry, row: rows[index], gain: gain(entry.sample), place: GALLERY.samples.indexOf(entry.sample) }));
  const sign = { "": 0, gains: -1, losses: 1 }[choice("order").value];
  order.sort((a, b) => sign * (a.gain - b.gain) || a.place - b.place);
  if (order.every(({ row }, index) => row === rows[index])) return;
  const selected = rows[current], playing = rows.filter((row) => row.playing);
  playing.forEach(pause);  // a video that moves in the page stops
  order.forEach(({ entry, row }, index) => { entries[index] = entry; rows[index] = row; });
  current = rows.indexOf(selected);
  list.append(...rows.map((row) => row.element));
  playing.forEach(play);
}

function refill() {
  sort();
  for (const row of rows) {
    if (!row.visible) continue;
    if (row.playing) pause(row);
    row.clear();
    row.fill();
    if (row.wanted && allPlaying) play(row);
  }
  filter();
}

function goToHash() {
  const index = rows.findIndex((row) => row.element.id === decodeURIComponent(location.hash.slice(1)));
  if (index < 0) return;
  rows[index].element.hidden = false;
  select(index, true);
}

let pauseOfTyping;
choice("search").addEventListener("input", () => {
  clearTimeout(pauseOfTyping);
  pauseOfTyping = setTimeout(filter, SEARCH_PAUSE_MS);
});
for (const id of ["main_category", "sub_category", "domain", "question_category", "outcome"]) choice(id).addEventListener("change", filter);
function countColumns() {
  if (choice("columns")) choice("column-count").textContent = `${columns().length} of ${GALLERY.variants.length}`;
}
choice("columns")?.addEventListener("change", () => { countColumns(); refill(); });
choice("all-columns")?.addEventListener("click", () => {
  for (const box of document.getElementsByName("column")) box.checked = true;
  countColumns();
  refill();
});
// What is compared with is seen, too.
choice("against").addEventListener("change", () => {
  const box = document.getElementsByName("column")[otherVariant()];
  if (box && !box.checked) { box.checked = true; countColumns(); }
});
for (const id of ["seed", "against"]) choice(id).addEventListener("change", refill);
choice("order").addEventListener("change", () => { sort(); filter(); });
choice("clear").addEventListener("click", () => {
  for (const id of ["search", "main_category", "sub_category", "domain", "question_category", "outcome"]) choice(id).value = "";
  filter();
});
choice("more").addEventListener("click", () => {
  choice("more").setAttribute("aria-expanded", choice("filters").classList.toggle("open"));
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.activeElement.blur();
  if (event.key !== "/" || event.target.closest("input, select")) return;
  event.preventDefault();
  choice("search").focus();
});
addEventListener("hashchange", goToHash);
countColumns();
list.append(...rows.map((row) => row.element));
filter();
start();
goToHash();
document.documentElement.dataset.readyMs = Math.round(performance.now());
