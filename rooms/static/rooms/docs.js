/*
 * The examples of /docs: tabs choose the language of all of them, and each can be copied and run on this site. Without
 * this script they are commands of curl.
 */

const MOST = 4000; // characters of a body that are shown
const LANGUAGES = { curl: "curl", python: "Python", javascript: "JavaScript" };

const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

// --- The language of the examples: tabs (WAI-ARIA 1.2), chosen by click, arrow keys, Home and End

const tabs = document.getElementById("languages");

const choose = (language) => {
  for (const tab of tabs.children) {
    const chosen = tab.dataset.language === language;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
  }
  for (const text of document.querySelectorAll(".example pre[data-language]")) text.hidden = text.dataset.language !== language;
};

tabs.setAttribute("role", "tablist");
for (const [language, label] of Object.entries(LANGUAGES)) {
  const tab = make("button", { type: "button", textContent: label, id: `tab-${language}` });
  tab.dataset.language = language;
  tab.setAttribute("role", "tab");
  const panel = document.querySelector(`.first pre[data-language=${language}]`);
  panel.id = `first-${language}`;
  panel.setAttribute("role", "tabpanel");
  panel.setAttribute("aria-labelledby", tab.id);
  tab.setAttribute("aria-controls", panel.id);
  tab.addEventListener("click", () => choose(language));
  tabs.append(tab);
}
tabs.addEventListener("keydown", (event) => {
  const all = [...tabs.children];
  const at = all.indexOf(event.target);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const tab = all.at(next % all.length);
  tab.focus();
  choose(tab.dataset.language);
});
choose("curl");

// --- Running

/** The beginning of a body; the rest is not read, as it may be all rooms. */
const beginning = async (response) => {
  if (!response.body) return "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (text.length <= MOST) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += value;
  }
  reader.cancel();
  return `${text.slice(0, MOST)}\n…`;
};

const pretty = (text) => {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // no JSON, or its beginning
  }
};

const run = async (example, output) => {
  const { path, method, accept } = example.dataset;
  output.hidden = false;
  output.textContent = "…";
  try {
    const response = await fetch(path, { method, headers: { Accept: accept ?? "*/*" } });
    const link = method === "HEAD" ? `\nLink: ${response.headers.get("Link")}` : "";
    const head = `HTTP ${response.status} ${response.headers.get("Content-Type") ?? ""}${link}`;
    output.textContent = `${head}\n\n${pretty(await beginning(response))}`.trim();
  } catch {
    output.textContent = "No response: the site cannot be reached.";
  }
};

for (const example of document.querySelectorAll(".example")) {
  const row = example.querySelector(".try");
  const name = example.dataset.path;
  if (navigator.clipboard) {
    const copy = make("button", { type: "button", textContent: "copy" });
    copy.setAttribute("aria-label", `copy the request of ${name}`);
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(example.querySelector("pre:not([hidden])").textContent);
        copy.textContent = "copied";
      } catch {
        copy.textContent = "not allowed"; // by the browser
      }
      setTimeout(() => (copy.textContent = "copy"), 2000);
    });
    row.append(copy, " ");
  }
  const button = make("button", { type: "button", textContent: "run" });
  button.setAttribute("aria-label", `run ${name}`);
  const output = make("pre", { className: "output", hidden: true, tabIndex: 0 });
  output.setAttribute("role", "status");
  button.addEventListener("click", () => run(example, output));
  row.append(button);
  row.after(output);
}
