"use strict";
// All texts of the data are untrusted: they become text nodes, never markup, addresses or styles.

const parsed = new Promise((done) => addEventListener("DOMContentLoaded", done));
const opened = document.getElementById("opened");
const unpacked = new Map();
const PER_PAGE = 100;
const SVG = "http://www.w3.org/2000/svg";

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) made.setAttribute(name, value);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

function draw(parent, tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

async function unpack(id) {
  if (!document.getElementById(id)) await parsed;
  if (!unpacked.has(id)) {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    if (unpacked.size > 20) unpacked.clear(); // a reader of all questions needs little memory, too
    unpacked.set(id, JSON.parse(await new Response(stream).text()));
  }
  return unpacked.get(id);
}

const VERDICTS = { right: "✓ right", wrong: "✗ wrong", unknown: "unknown", unanswered: "no answer" };
const percent = (share) => (share === null ? "" : `${(100 * share).toFixed(1)} %`);
const moment = (seconds) => (seconds ? `${new Date(1000 * seconds).toISOString().slice(0, 19).replace("T", " ")} UTC` : "");
const cells = (pairs) => pairs.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value)));

// Figures

function showSummary(summary) {
  const cut = summary.longest ? `; texts of more than ${summary.longest} characters are shown without their middle` : "";
  document.getElementById("about").textContent = `${summary.source}, enqueued ${moment(summary.enqueued)}${cut}`;
  for (const figure of summary.headline) {
    const value = figure.value ?? (figure.of ? figure.right / figure.of : null);
    const interval = figure.interval && `${figure.interval.map((end) => (100 * end).toFixed(1)).join(" to ")} (95 %)`;
    const counts = figure.of ? `${figure.right} of ${figure.of}` : "";
    const note = el("span", { class: "faint" }, [counts, interval, figure.note].filter(Boolean).join("; "));
    const shown = el("span", { class: "value" }, value === null ? "-" : percent(value));
    document.getElementById("headline").append(
      el("div", {}, el("dt", {}, figure.label), el("dd", {}, shown, el("br"), note)),
    );
  }
  document.querySelector("#all-figures tbody").append(...cells(summary.figures));
  document.querySelector("#costs tbody").append(...cells(summary.cost));
}

// Charts

const WIDTH = 480, HEIGHT = 270, LEFT = 46, BOTTOM = 44, TOP = 14, RIGHT = 16;

function frame(chart, most, ticks) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Chart: ${chart.title}. Its data are in the table below.`);
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - BOTTOM - TOP);
  for (const tick of ticks) {
    draw(svg, "line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick), class: tick ? "grid" : "axis" });
    draw(svg, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, `${+tick.toPrecision(3)}`);
  }
  draw(svg, "text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, chart.x);
  draw(svg, "text", { x: 12, y: HEIGHT / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${HEIGHT / 2})` }, chart.y);
  return { svg, y };
}

function ticksUpTo(most) {
  const rough = most / 4 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, at) => at * step);
}

function figureOf(chart, svg, legend, heading, rows) {
  const keys = legend.map(([series, mark]) => {
    const name = VERDICTS[series] ?? series;
    const square = document.createElementNS(SVG, "svg");
    square.setAttribute("viewBox", "0 0 10 10");
    square.setAttribute("aria-hidden", "true");
    square.setAttribute("class", "key");
    draw(square, "rect", { width: 10, height: 10, class: mark });
    return [square, name];
  });
  const head = el("tr", {}, heading.map((name) => el("th", { scope: "col" }, name)));
  const body = rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, `${cell ?? ""}`))));
  const caption = el("caption", { class: "hidden" }, chart.title);
  const table = el("table", {}, caption, el("thead", {}, head), el("tbody", {}, body));
  const data = el("details", {}, el("summary", {}, `Data: ${chart.title}`), table);
  const shown = legend.length > 1 ? el("div", { class: "faint" }, keys.flat()) : null;
  return el("figure", {}, el("figcaption", {}, chart.title), svg, shown, data);
}

function barChart(chart) {
  const series = Object.entries(chart.series), bars = chart.bars.length;
  const marks = series.map(([name], at) => `s-${name in VERDICTS ? name : at % 3}`);
  const totals = chart.bars.map((_, at) => series.reduce((sum, [, values]) => sum + values[at], 0));
  const highest = Math.max(1, ...(chart.grouped ? series.flatMap(([, values]) => values) : totals));
  const ticks = ticksUpTo(highest), { svg, y } = frame(chart, ticks.at(-1), ticks);
  const slot = (WIDTH - LEFT - RIGHT) / bars, every = Math.ceil(bars / 12);
  chart.bars.forEach((label, at) => {
    let below = 0;
    const middle = LEFT + (at + 0.5) * slot, width = Math.min(0.8 * slot, 100);
    series.forEach(([name, values], which) => {
      const value = values[at], wide = chart.grouped ? width / series.length : width;
      const x = middle - width / 2 + (chart.grouped ? which * wide : 0), base = chart.grouped ? 0 : below;
      const bar = draw(svg, "rect", { x, width: wide, y: y(base + value), height: y(base) - y(base + value), class: marks[which] });
      draw(bar, "title", {}, `${label}: ${+value.toFixed(1)} ${name}`);
      below += value;
    });
    if (chart.notes?.[at] && at % every === 0) draw(svg, "text", { x: middle, y: y(below) - 3, "text-anchor": "middle" }, chart.notes[at]);
    if (at % every === 0) {
      const most = Math.max(3, Math.floor((slot * every) / 6)), short = label.length > most ? `${label.slice(0, most - 1)}…` : label;
      draw(svg, "text", { x: middle, y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, short);
    }
  });
  const rows = chart.bars.map((label, at) => [label, ...series.map(([, values]) => +values[at].toFixed(1))]);
  return figureOf(chart, svg, series.map(([name], at) => [name, marks[at]]), [chart.x, ...series.map(([name]) => name)], rows);
}

function pointChart(chart) {
  const { svg, y } = frame(chart, 1, [0, 0.25, 0.5, 0.75, 1]);
  const x = (value) => LEFT + value * (WIDTH - LEFT - RIGHT);
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    draw(svg, "text", { x: Math.min(x(tick), WIDTH - 16), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, `${tick}`);
  }
  if (chart.diagonal) draw(svg, "line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "diagonal" });
  for (const [at, share, low, high, count] of chart.points) {
    if (low !== null) draw(svg, "line", { x1: x(at), x2: x(at), y1: y(low), y2: y(high), class: "interval" });
    const point = draw(svg, "circle", { cx: x(at), cy: y(share), r: 4, class: "s-0" });
    draw(point, "title", {}, `${chart.x} ${at.toFixed(2)}: ${chart.y} ${percent(share)} of ${count}`);
  }
  const rows = chart.points.map(([at, share, low, high, count]) => [at.toFixed(3), percent(share), percent(low), percent(high), count]);
  return figureOf(chart, svg, [], [chart.x, chart.y, "95 % from", "to", "of"], rows);
}

// Histograms of the table's rows.
function histogram(title, x, values, verdicts) {
  const [least, most] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const span = most - least || 1, count = most > least ? Math.min(30, values.length) : 1;
  const names = Object.keys(VERDICTS).filter((name) => verdicts.includes(name));
  const series = Object.fromEntries(names.map((name) => [name, Array(count).fill(0)]));
  values.forEach((value, at) => { series[verdicts[at]][Math.min(count - 1, Math.floor(((value - least) / span) * count))] += 1; });
  const digits = Math.min(2, Math.max(0, Math.ceil(-Math.log10(span / count)))); // so that labels differ
  const bars = Array.from({ length: count }, (_, at) => (least + (at * span) / count).toFixed(digits));
  return { title, x, y: "questions", bars, series };
}

function count(title, x, bars, pairs) {
  const names = Object.keys(VERDICTS).filter((name) => pairs.some(([, verdict]) => verdict === name));
  const number = (bar, name) => pairs.reduce((sum, [at, verdict, times = 1]) => sum + (at === bar && verdict === name ? times : 0), 0);
  const series = Object.fromEntries(names.map((name) => [name, bars.map((bar) => number(bar, name))]));
  return { title, x, y: "questions", bars: bars.map(String), series };
}

function letterChart(counters) {
  const total = (counts) => Object.values(counts).reduce((sum, each) => sum + each, 0);
  const found = new Set(Object.values(counters).flatMap(Object.keys));
  const letters = [...found].filter((letter) => letter !== "none").sort().concat(found.has("none") ? "none" : []);
  const series = Object.entries(counters).filter(([, counts]) => total(counts)).map(([name, counts]) => [
    `${name} (${total(counts)})`, letters.map((letter) => (100 * (counts[letter] ?? 0)) / total(counts)),
  ]);
  return { title: "Letters", x: "letter", y: "% of each", bars: letters, series: Object.fromEntries(series), grouped: true };
}

function describeCharts({ agreement, letters, calibration, scorer }, rows, place) {
  const charts = [], answered = rows.filter((row) => row[place.answered] !== null);
  const of = (column, unit = 1) => [answered.map((row) => row[place[column]] / unit), answered.map((row) => row[place.verdict])];
  const pairs = (column) => rows.map((row) => [row[place[column]], row[place.verdict]]);
  const kinds = (column) => [...new Set(rows.map((row) => row[place[column]]))];
  const [unit, seconds] = answered.some((row) => row[place.answered] > 600) ? ["minutes", 60] : ["seconds", 1];
  if (answered.length) charts.push(histogram("Answers over time", `${unit} since the first claim`, ...of("answered", seconds)));
  const size = Math.max(0, ...agreement.map(([votes]) => votes));
  if (size > 1) {
    const x = `votes for the commonest letter, of ${size} in the first round`;
    const bars = Array.from({ length: size }, (_, at) => at + 1);
    charts.push(count("Agreement of votes and right answers", x, bars, agreement.map(([, ...pair]) => pair)));
  }
  charts.push(count("How the questions ended", "outcome", kinds("outcome"), pairs("outcome")));
  charts.push(count("Rounds", "round of the answer, or the last one", kinds("rounds").sort((a, b) => a - b), pairs("rounds")));
  charts.push(letterChart(letters));
  const point = (at, { share, interval }) => [at, share.share, ...(interval ?? [null, null]), share.of];
  if (calibration) {
    const bins = calibration.bins.map((part) => point(part.probability, part)), surest = calibration.surest.map((part) => point(part.coverage, part));
    charts.push({ title: "Reliability", x: "probability (mean of a bin)", y: "share of right answers", points: bins, diagonal: true });
    charts.push({ title: "Risk against coverage", x: "share answered, the surest first", y: "share wrong", points: surest });
  }
  if (scorer.length) {
    const points = scorer.map(([score, share, votes]) => [score, share, null, null, votes]);
    charts.push({ title: "Calibration of the scorer", x: "score (mean of a bin)", y: "share of right votes", points, diagonal: true });
  }
  if (answered.length) charts.push(histogram("Tokens per question", "tokens sampled", ...of("tokens")));
  return charts.filter((chart) => chart.points?.length || chart.bars?.length);
}

function showCharts(summary, rows, place) {
  const charts = describeCharts(summary.charts, rows, place);
  for (const chart of charts.filter((each) => each.series?.right && each.series?.wrong)) {
    const { right, wrong } = chart.series;
    chart.notes = right.map((count, at) => (count + wrong[at] ? `${Math.round((100 * count) / (count + wrong[at]))} %` : ""));
    chart.x += " (above the bars: right)";
  }
  document.getElementById("drawn").append(...charts.map((chart) => (chart.points ? pointChart : barChart)(chart)));
}

// The table

const TITLES = { key: "question", text: "text", right: "gold", before: "answer before" };
const SHARES = ["agreement", "confidence", "probability"];
const NUMBERS = [...SHARES, "rounds", "votes", "tokens"];

function showTable(summary, rows) {
  const place = Object.fromEntries(summary.columns.map((name, at) => [name, at]));
  const has = (name) => rows.some((row) => row[place[name]] !== null);
  const optional = ["right", "agreement", "confidence", "probability", "before"];
  const columns = summary.columns.filter((name) => name !== "answered" && (!optional.includes(name) || has(name)));
  const state = { sort: null, down: false, page: 0, shown: rows.map((_, at) => at), open: null };
  const lower = rows.map((row) => `${row[place.key]}\n${row[place.text]}`.toLowerCase());
  const filters = [];
  let reading = null;

  // The texts are unpacked when somebody searches: they are most of the page.
  async function readTexts() {
    for (let from = 0; from < rows.length; from += summary.chunk) {
      const chunk = await unpack(`questions-${from / summary.chunk}`);
      chunk.forEach(({ key, problem, question, options }, at) => { lower[from + at] = [key, problem, question, ...options].join("\n").toLowerCase(); });
    }
    reading = "";
    refilter();
  }

  function refilter() {
    state.shown = rows.map((_, at) => at).filter((at) => filters.every((passes) => passes(rows[at], at)));
    if (state.sort !== null) {
      const by = place[state.sort], sign = state.down ? -1 : 1;
      const text = new Intl.Collator("en", { numeric: true }).compare;
      const compare = NUMBERS.includes(state.sort) ? (a, b) => a - b : text;
      // Rows without a value come last in both directions.
      const empty = (at) => rows[at][by] === null;
      state.shown.sort((a, b) => empty(a) - empty(b) || sign * (empty(a) ? 0 : compare(rows[a][by], rows[b][by])) || a - b);
    }
    state.page = 0;
    render();
  }

  function labelled(text, field) {
    field.addEventListener(field.tagName === "SELECT" ? "change" : "input", refilter);
    return el("label", {}, text, field);
  }

  function choice(text, column) {
    const values = [...new Set(rows.map((row) => row[place[column]]))].filter((value) => value !== null).sort();
    const select = el("select", {}, el("option", { value: "" }, "all"), values.map((value) => el("option", { value }, (column === "verdict" && VERDICTS[value]) || value)));
    filters.push((row) => select.selectedIndex === 0 || row[place[column]] === values[select.selectedIndex - 1]);
    return labelled(text, select);
  }

  function range(column) {
    const fields = ["from", "to"].map((end) => el("input", { type: "number", min: 0, max: 100, step: "any", "aria-label": `${column} ${end}, in %` }));
    filters.push((row) => fields.every((field, at) => {
      const bound = field.valueAsNumber / 100, value = row[place[column]];
      return Number.isNaN(bound) || (value !== null && (at ? value <= bound + 1e-6 : value >= bound - 1e-6));
    }));
    return el("fieldset", {}, el("legend", {}, `${column}, in %`), labelled("", fields[0]), " to ", labelled("", fields[1]));
  }

  const wanted = el("input", { type: "search" });
  wanted.addEventListener("input", () => {
    if (reading !== null) return;
    reading = ", until the texts are read";
    readTexts();
  });
  filters.push((_, at) => !wanted.value || lower[at].includes(wanted.value.toLowerCase()));
  document.getElementById("filters").append(
    labelled("name, problem, question or option", wanted), choice("right or wrong", "verdict"), choice("outcome", "outcome"), choice("answer", "answer"),
    ...SHARES.filter((name) => columns.includes(name)).map(range),
  );
  document.getElementById("clear").addEventListener("click", () => {
    for (const field of document.querySelectorAll("#filters input")) field.value = "";
    for (const field of document.querySelectorAll("#filters select")) field.selectedIndex = 0;
    refilter();
  });

  const headings = columns.map((name) => {
    const button = el("button", { type: "button" }, TITLES[name] ?? name);
    const heading = el("th", { scope: "col", class: NUMBERS.includes(name) ? "number" : "" }, button);
    button.addEventListener("click", () => {
      state.down = state.sort === name && !state.down;
      state.sort = name;
      for (const each of headings) each.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      refilter();
    });
    return heading;
  });
  document.querySelector("#table thead tr").append(...headings);

  function cell(row, name) {
    const value = row[place[name]];
    if (name === "verdict") return el("td", { class: `word ${value}` }, VERDICTS[value]);
    if (SHARES.includes(name)) return el("td", { class: "number" }, percent(value));
    if (NUMBERS.includes(name)) return el("td", { class: "number" }, `${value}`);
    return el("td", { dir: name === "text" ? "auto" : "ltr", class: name === "text" ? "text" : "" }, value ?? "");
  }

  function render() {
    const pages = Math.max(1, Math.ceil(state.shown.length / PER_PAGE)), from = state.page * PER_PAGE;
    const body = state.shown.slice(from, from + PER_PAGE).map((at) => {
      const button = el("button", { type: "button", "data-at": at }, rows[at][place.key]);
      const shown = el("tr", {}, el("td", { dir: "ltr" }, button), columns.slice(1).map((name) => cell(rows[at], name)));
      shown.addEventListener("click", () => open(at));
      return shown;
    });
    document.querySelector("#table tbody").replaceChildren(...body);
    document.getElementById("count").textContent = `${state.shown.length} of ${rows.length} questions${reading ?? ""}`;
    document.getElementById("place").textContent = `Page ${state.page + 1} of ${pages}`;
    document.getElementById("previous").disabled = state.page === 0;
    document.getElementById("next").disabled = state.page >= pages - 1;
  }

  function turn(by) {
    state.page += by;
    render();
    document.getElementById("table").scrollIntoView();
    // A button that becomes disabled loses the focus.
    for (const [one, other] of [["previous", "next"], ["next", "previous"]]) {
      if (document.getElementById(one).disabled) document.getElementById(other).focus({ preventScroll: true });
    }
  }
  document.getElementById("previous").addEventListener("click", () => turn(-1));
  document.getElementById("next").addEventListener("click", () => turn(1));

  async function open(at) {
    state.open = at;
    const question = (await unpack(`questions-${Math.floor(at / summary.chunk)}`))[at % summary.chunk];
    const content = question ? await describe(question, summary.chunk) : [el("h2", { id: "opened-title", tabindex: -1 }, "The run has grown: write the page again")];
    if (state.open !== at) return; // another question was opened meanwhile
    document.getElementById("content").replaceChildren(...content);
    const where = state.shown.indexOf(at);
    document.getElementById("earlier").disabled = where <= 0;
    document.getElementById("later").disabled = where < 0 || where >= state.shown.length - 1;
    if (!opened.open) opened.showModal();
    document.getElementById("opened-title").focus(); // a screen reader says which question it is
    opened.scrollTop = 0;
  }
  const step = (by) => open(state.shown[state.shown.indexOf(state.open) + by]);
  document.getElementById("earlier").addEventListener("click", () => step(-1));
  document.getElementById("later").addEventListener("click", () => step(1));
  document.getElementById("close").addEventListener("click", () => opened.close());
  opened.addEventListener("close", () => document.querySelector(`#table button[data-at="${state.open}"]`)?.focus());
  refilter();
  return place;
}

// One question

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const text = (value, mark = "") => el("pre", { dir: "auto", class: mark }, value);
const folded = (title, ...children) => el("details", {}, el("summary", {}, title), children);
// A condition that does not hold leaves its part out; 0 is a value.
const joined = (parts) => parts.filter((part) => part === 0 || part).join(" · ");

async function sharedTexts(question, chunk) {
  const numbers = question.rounds.flatMap((round) => [...(round.prompt ?? []), ...round.examples.flatMap(([, parts]) => parts)]);
  const texts = new Map();
  for (const number of numbers.filter(Number.isInteger)) {
    texts.set(number, (await unpack(`shared-${Math.floor(number / chunk)}`))[number % chunk]);
  }
  return texts;
}

async function describe(question, chunk) {
  const shared = await sharedTexts(question, chunk);
  const { answer, gold, votes } = question;
  const reason = question.reason ?? (["pending", "leased"].includes(question.state) ? "no answer yet" : null);
  const ended = answer ? answerLine(answer, gold) : [question.state, reason].filter(Boolean).join(": ");
  const options = question.options.map((option, at) => {
    const letter = LETTERS[at], count = votes.filter((vote) => vote.letter === letter).length;
    const notes = joined([letter === gold ? "right" : "", letter === answer?.letter ? "answer" : "", `${count} of ${votes.length} votes`]);
    return el("li", { dir: "auto", class: letter === gold ? "gold" : "plain" }, `${letter}. ${option}`, el("span", { class: "faint" }, ` (${notes})`));
  });
  return [
    el("h2", { id: "opened-title", tabindex: -1 }, question.key),
    el("p", {}, ended),
    el("h3", {}, "Question"),
    text(question.problem), text(question.question), el("ol", { class: "options" }, options),
    el("h3", {}, `Votes (${votes.length})`),
    question.texts_dropped_at ? el("p", {}, `The texts were dropped at ${moment(question.texts_dropped_at)}.`) : null,
    ...votes.flatMap((vote) => describeVote(vote, gold)),
    el("h3", {}, "Prompts"),
    ...question.rounds.flatMap((round) => describeRound(round, question.problem, shared)),
    question.rounds.length ? null : el("p", { class: "faint" }, "No round of this question was sampled here."),
    el("h3", {}, "History"),
    el("ol", {}, events(question).map((line) => el("li", {}, line))),
  ].filter(Boolean);
}

function answerLine(answer, gold) {
  const verdict = gold === null ? "right answer unknown" : answer.letter === gold ? "right" : `wrong, ${gold} is right`;
  const known = answer.probability === undefined ? "" : `right with probability ${answer.probability.toFixed(2)}`;
  return joined([`Answer ${answer.letter}`, verdict, answer.how, `${answer.support} votes for it`, known, answer.abstained ? "the question abstained" : ""]);
}

function describeVote(vote, gold) {
  const verdict = vote.letter === null || gold === null ? "" : vote.letter === gold ? "right" : "wrong";
  const facts = joined([
    vote.accepted ? "accepted" : "void",
    vote.score === null ? "no score" : `score ${vote.score.toFixed(3)}`,
    vote.weight === null ? "" : `weight ${+vote.weight.toFixed(3)}`,
    `${vote.tokens} tokens`,
    vote.voice === "reasoning" ? "" : vote.voice,
    vote.outcome,
    vote.letter_source === "forced" ? "letter asked for" : "",
    vote.order && `options seen in the order ${[...vote.order].join(" ")}`,
    vote.finish_reason && vote.finish_reason !== "stop" && `finish reason ${vote.finish_reason}`,
    vote.mean_logprob === null ? "" : `mean log-probability ${vote.mean_logprob.toFixed(3)}`,
    vote.scorer && `scorer ${vote.scorer}`,
    vote.run && `of run ${vote.run}`,
  ]);
  return [
    el("h4", {}, `${vote.attempt}.${vote.place + 1}: ${vote.letter ?? "no letter"} ${{ right: "✓", wrong: "✗" }[verdict] ?? ""}`, " ", el("span", { class: "faint" }, facts)),
    vote.thinking ? folded(`Thinking (${vote.thinking.length} characters)`, text(vote.thinking)) : null,
    vote.text ? text(vote.text, `said ${verdict}`) : null,
    vote.output ? [el("p", { class: "faint" }, "Output"), text(vote.output)] : null,
    vote.detail ? el("p", { dir: "auto" }, `${vote.outcome}: ${vote.detail}`) : null,
    vote.first_text ? folded(`First text, which ended in: ${vote.first_outcome}`, text(vote.first_text)) : null,
  ].flat().filter(Boolean);
}

function describeRound(round, problem, shared) {
  const generator = round.generator ? `${round.generator.model} (weights ${round.generator.weights}, ${round.generator.engine})` : "model not recorded";
  const sampling = Object.entries(round.sampling).map(([name, value]) => `${name} ${value}`).join(", ");
  const facts = joined([
    generator, round.adapter && `adapter ${round.adapter}`, sampling, round.seed === null ? "" : `seed ${round.seed}`, `prompt as ${round.style}`,
    round.prompt_tokens && `${round.prompt_tokens} tokens`, round.unfinished && `stopped early: ${round.unfinished} votes not needed, ${round.aborted_tokens} tokens of them sampled`,
  ]);
  const voice = round.voice === "reasoning" ? "" : `, ${round.voice}`;
  const examples = round.examples.map(([position, parts]) => folded(`Example ${position}`, parts.length
    ? text(parts.map((part) => shared.get(part)).join("\n"))
    : el("p", {}, "The example is not in the ledger.")));
  const prompt = round.prompt?.map((part) => (Number.isInteger(part) ? shared.get(part) : part ?? problem)).join("");
  return [
    el("h4", {}, `Round ${round.attempt}${voice}`), el("p", { class: "faint" }, facts),
    ...(examples.length ? examples : [el("p", { class: "faint" }, "No examples of the run were shown.")]),
    prompt === undefined ? el("p", {}, "The prompt cannot be shown: this version of votequeue would build another one.") : folded("Exact prompt", text(prompt)),
  ];
}

function events(question) {
  const found = [];
  for (const claim of question.claims) {
    found.push([claim.claimed_at, `attempt ${claim.attempt} claimed by ${claim.worker}`]);
    if (claim.ended_at) found.push([claim.ended_at, `attempt ${claim.attempt} ended: ${claim.outcome}`]);
  }
  for (const round of question.rounds) found.push([round.sampled_at, `round ${round.attempt} sampled (${round.voice})`]);
  for (const call of question.calls) {
    const used = `${call.input_tokens} tokens in, ${call.output_tokens} out, cost ${+call.cost.toPrecision(4)}`;
    found.push([call.begun_at, `call ${call.step} to ${call.provider}/${call.model}: ${call.outcome ?? "not ended"}, ${used}${call.detail ? `: ${call.detail}` : ""}`]);
  }
  if (question.answer) found.push([question.answer.answered_at, `answer ${question.answer.letter} recorded, in round ${question.answer.attempt}`]);
  return found.sort(([a], [b]) => a - b).map(([at, line]) => `${moment(at)}: ${line}`);
}

(async () => {
  try {
    if (!("DecompressionStream" in window)) throw new Error("this browser is too old: it has no DecompressionStream");
    const [summary, rows] = [await unpack("summary"), await unpack("rows")];
    unpacked.clear();
    showSummary(summary);
    showCharts(summary, rows, showTable(summary, rows));
    document.body.setAttribute("data-ready", "");
  } catch (error) {
    document.getElementById("fault").textContent = `This page does not work here: ${error.message}`;
    throw error;
  }
})();
