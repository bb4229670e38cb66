// A page that its run serves asks for what is new, and goes on from what it shows.
const POLL_MILLISECONDS = 2000;
const REST = 10; // as many times as long as an answer took nothing is asked: the run's machine has better to do
const state = document.getElementById("state");
const connection = html("p", "note");
const markup = new Map(); // id of a section -> what the server sent of it last
let version = "";

async function poll() {
  const asked = performance.now();
  try {
    connection.textContent = await ask();
  } catch (error) {
    connection.textContent = `what came cannot be shown: ${error}`;
    console.error(error);
  } finally {
    setTimeout(poll, Math.max(POLL_MILLISECONDS, REST * (performance.now() - asked)));
  }
}

// Takes what is new; how the connection is, in words.
async function ask() {
  let answer, text;
  try {
    answer = await fetch("data", { headers: { "If-None-Match": version }, cache: "no-store" });
    text = await answer.text();
  } catch {
    return "the server has ended; what is shown stays";
  }
  if (answer.status === 304) return "live";
  if (!answer.ok) return `the server answers ${answer.status}: ${text}`;
  take(JSON.parse(text));
  version = answer.headers.get("ETag");
  return "live";
}

function take(news) {
  ({ runs, charts, marks } = news.data);
  state.textContent = news.state;
  const figures = document.querySelectorAll(".figures dd");
  news.figures.forEach(([, value], i) => { figures[i].textContent = value; });
  prepare();
  drawAll();
  // The server's own markup, as of the page itself; scripts in it would not run.
  const sections = new DOMParser().parseFromString(news.sections, "text/html").querySelectorAll("section");
  for (const section of sections) {
    const old = document.getElementById(section.id);
    const text = section.outerHTML;
    if ((markup.get(section.id) ?? old.outerHTML) !== text) old.replaceWith(section);
    markup.set(section.id, text);
  }
}

if (isLive) {
  connection.setAttribute("role", "status");
  state.after(connection);
  poll();
}
