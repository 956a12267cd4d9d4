// The three views as tabs, and the page's beginning.
const VIEWS = { table: TableView.draw, maze: MazeView.draw, coverage: CoverageView.draw };
const drawView = () => VIEWS[State.values.view]();

function showTab() {
  for (const view of Object.keys(VIEWS)) {
    const isShown = view === State.values.view, tab = document.getElementById(`tab-${view}`);
    document.getElementById(`view-${view}`).hidden = !isShown;
    tab.setAttribute("aria-selected", isShown);
    tab.tabIndex = isShown ? 0 : -1;
  }
}

function listenToTabs() {
  const names = Object.keys(VIEWS), list = document.querySelector("[role=tablist]");
  const go = (view) => { State.set({ view }); document.getElementById(`tab-${view}`).focus(); };
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) go(tab.id.replace("tab-", ""));
  });
  list.addEventListener("keydown", (event) => {
    const at = names.indexOf(State.values.view), last = names.length - 1;
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(names[to]);
  });
}

State.readAddress(location.hash);
State.listeners.push(TableView.settle, MazeView.settle, (changed) => {
  if (changed.has("view")) showTab();
  drawView();
});
TableView.start();
TableView.settle(new Set(["a"]));
MazeView.start(() => State.values.view !== "table" && drawView());
State.listen();
listenToTabs();
State.show();
showTab();
drawView();
window.addEventListener("hashchange", () => State.readAddress(location.hash));
let resizing = 0;
window.addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(drawView, 100); });

// what tests and curious visitors may call from the console
window.explorer = { Theory, Objectives, Estimators, Formula, Maze, Coverage, State, TableView, MazeView, CoverageView };
