/*
 * The search form with a script: places complete as one types, "near me", two handles under each histogram, and a
 * choice that submits itself. Without this script the fields, the bars and the button do the same.
 */

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

/** The form of the page; once more where the map has put another list in place. */
const enhance = () => {
  const form = document.getElementById("search");
  const place = document.getElementById("place");

  // --- Places: a combobox with a list of options (WAI-ARIA 1.2)

  const options = element("ul", { id: "places", className: "places", role: "listbox", hidden: true });
  options.setAttribute("aria-label", "Places");
  place.setAttribute("role", "combobox");
  place.setAttribute("aria-autocomplete", "list");
  place.setAttribute("aria-controls", "places");
  place.setAttribute("aria-expanded", "false");
  place.after(options);

  let request = null;
  let active = -1;

  const close = () => {
    request?.abort(); // nothing opens the list again
    options.hidden = true;
    active = -1;
    place.setAttribute("aria-expanded", "false");
    place.removeAttribute("aria-activedescendant");
  };

  const choose = (name) => {
    place.value = name;
    close();
    form.requestSubmit();
  };

  const show = (places) => {
    options.replaceChildren(
      ...places.map((found, index) => {
        const option = element("li", { id: `place-${index}`, role: "option", textContent: found.name });
        option.setAttribute("aria-selected", "false");
        option.addEventListener("pointerdown", (event) => {
          event.preventDefault(); // the field keeps the focus
          choose(found.name);
        });
        return option;
      }),
    );
    options.hidden = places.length === 0;
    active = -1;
    place.setAttribute("aria-expanded", String(places.length > 0));
  };

  const complete = async () => {
    const text = place.value.trim();
    if (text.length < 2 || /[\d/]/.test(text)) return close();
    request?.abort();
    request = new AbortController();
    try {
      const response = await fetch(`/places?q=${encodeURIComponent(text)}`, { signal: request.signal });
      if (response.ok) show(await response.json());
    } catch (error) {
      if (error.name !== "AbortError") close();
    }
  };

  const move = (step) => {
    const items = [...options.children];
    items[active]?.setAttribute("aria-selected", "false");
    active = (active + step + items.length) % items.length;
    items[active].setAttribute("aria-selected", "true");
    items[active].scrollIntoView({ block: "nearest" });
    place.setAttribute("aria-activedescendant", items[active].id);
  };

  place.addEventListener("input", complete);
  place.addEventListener("blur", close);
  place.addEventListener("keydown", (event) => {
    if (event.key === "Escape") request?.abort();
    if (options.hidden) return;
    if (event.key === "ArrowDown") move(1);
    else if (event.key === "ArrowUp") move(active < 0 ? 0 : -1);
    else if (event.key === "Escape") close();
    else if (event.key === "Enter" && active >= 0) choose(options.children[active].textContent);
    else return;
    event.preventDefault();
  });

  if (navigator.geolocation) {
    const near = element("button", { type: "button", className: "near-me", textContent: "Near me" });
    near.addEventListener("click", () => {
      near.disabled = true;
      navigator.geolocation.getCurrentPosition(
        ({ coords }) => choose(`${coords.latitude.toFixed(4)}, ${coords.longitude.toFixed(4)}`),
        () => {
          near.disabled = false;
          near.textContent = "Your place is not available";
        },
      );
    });
    place.form.querySelector(".where button").before(near);
  }

  // --- Two handles under a histogram: the number fields stay what is sent

  for (const range of form.querySelectorAll(".range[data-low]")) {
    const fields = [...range.querySelectorAll(".bounds input")];
    const [low, high] = [Number(range.dataset.low), Number(range.dataset.high)];
    if (high - low < 2) continue;
    const ends = [low, high];
    const handles = fields.map((field, index) => {
      const handle = element("input", { type: "range", min: low, max: high, step: 1 });
      handle.setAttribute("aria-label", `${range.querySelector("legend").firstChild.textContent.trim()} ${index ? "to" : "from"}`);
      handle.value = field.value || ends[index];
      handle.addEventListener("input", () => {
        const other = handles[1 - index];
        if (index === 0) handle.value = Math.min(handle.value, other.value);
        else handle.value = Math.max(handle.value, other.value);
        // At its end a handle means no bound.
        field.value = Number(handle.value) === ends[index] ? "" : handle.value;
      });
      handle.addEventListener("change", () => form.requestSubmit());
      field.addEventListener("input", () => {
        handle.value = field.value || ends[index];
      });
      return handle;
    });
    const slider = element("div", { className: "slider" }, ...handles);
    (range.querySelector(".histogram") ?? range.querySelector("legend")).after(slider);
  }

  for (const select of form.querySelectorAll("select")) {
    select.addEventListener("change", () => form.requestSubmit());
  }

  // --- Empty fields stay out of the URL

  form.addEventListener("submit", () => {
    for (const field of form.querySelectorAll("input[name], select[name]")) {
      if (field.value === "" && field !== place) field.disabled = true;
    }
  });
  addEventListener("pageshow", () => {
    for (const field of form.querySelectorAll("[name][disabled]")) field.disabled = false; // back from the results
  });
};

enhance();
document.addEventListener("results", enhance);
