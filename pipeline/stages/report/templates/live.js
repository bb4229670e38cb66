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
    const answer = await fetch("data", { headers: { "If-None-Match": version }, cache: "no-store" });
    if (answer.status === 200) {
      version = answer.headers.get("ETag");
      take(await answer.json());
    }
    connection.textContent = answer.ok || answer.status === 304 ? "live" : `the server answers ${answer.status}`;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // fetch tells a lost connection so
    connection.textContent = "the server has ended; what is shown stays";
  }
  setTimeout(poll, Math.max(POLL_MILLISECONDS, REST * (performance.now() - asked)));
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
