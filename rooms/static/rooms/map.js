/*
 * The map beside a list, public or of the admin: every room that matches, as clusters. Leaflet is fetched after the
 * list is there. Cards and pins go together; moving the map searches its area, where that is chosen.
 *
 * The element says what differs: `clusters`, the URL they are fetched from; `view`, else that URL says what to show
 * first; `outline`, an area that is drawn; `room`, the URL of a room; `area`, the words of the button that searches
 * the area; `follow`, whether that is done in place. The words of pins are English, where it has no others.
 */

const pane = document.getElementById("room-map");
const load = (made) =>
  new Promise((resolve, reject) => {
    made.onload = resolve;
    made.onerror = reject;
    document.head.append(made);
  });

const leaflet = () =>
  Promise.all([
    load(Object.assign(document.createElement("script"), { src: pane.dataset.script })),
    ...pane.dataset.styles.split(" ").map((href) => load(Object.assign(document.createElement("link"), { rel: "stylesheet", href }))),
  ]);

const number = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const short = (value) => (value < 10_000 ? number(value) : COMPACT.format(value));

const start = async () => {
  await leaflet();
  const moves = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  let query = new URL(pane.dataset.clusters, location.href);
  const view = pane.dataset.view || (await (await fetch(query, { headers: { Accept: "application/json" } })).json()).view;
  const [zoom, latitude, longitude] = view.split("/").map(Number);
  pane.replaceChildren();
  if (pane.dataset.zoomIn) L.Control.Zoom.mergeOptions({ zoomInTitle: pane.dataset.zoomIn, zoomOutTitle: pane.dataset.zoomOut });
  const map = L.map(pane, { worldCopyJump: true, minZoom: 1, maxZoom: 18, attributionControl: Boolean(pane.dataset.attribution), zoomAnimation: moves, fadeAnimation: moves, inertia: moves });
  map.attributionControl?.setPrefix(false);
  L.control.scale({ imperial: false }).addTo(map);
  L.tileLayer("/map/{z}/{x}/{y}.svg", { maxZoom: 18, className: "background" }).addTo(map);
  if (pane.dataset.tiles) {
    L.tileLayer(pane.dataset.tiles, { attribution: pane.dataset.attribution, zIndex: 3, maxZoom: 18, referrerPolicy: "strict-origin" }).addTo(map);
  }
  if (pane.dataset.pmtiles) import(pane.dataset.streets).then((streets) => streets.default(map, pane.dataset));
  if (pane.dataset.outline) {
    const [west, south, east, north] = pane.dataset.outline.split(",").map(Number);
    const corners = [[south, west], [north, west > east ? east + 360 : east]];
    L.rectangle(corners, { className: "outline", fill: false, weight: 2, interactive: false }).addTo(map);
  }
  const pins = L.layerGroup().addTo(map);
  map.setView([latitude, longitude], zoom, { animate: false });
  let pending = null;

  /** The box of the map as west, south, east, north; west is above east across the antimeridian. */
  const box = () => {
    const bounds = map.getBounds();
    const wrap = (degrees) => ((((degrees + 180) % 360) + 360) % 360) - 180;
    const whole = bounds.getEast() - bounds.getWest() >= 360;
    const sides = [
      whole ? -180 : wrap(bounds.getWest()),
      Math.max(bounds.getSouth(), -90),
      whole ? 180 : wrap(bounds.getEast()),
      Math.min(bounds.getNorth(), 90),
    ];
    return sides.map((degrees) => Number(degrees.toFixed(5))).join(",");
  };

  const draw = async () => {
    pending?.abort();
    pending = new AbortController();
    const url = new URL(query);
    url.searchParams.set("bbox", box());
    url.searchParams.set("zoom", map.getZoom());
    try {
      const response = await fetch(url, { headers: { Accept: "application/json" }, signal: pending.signal });
      if (!response.ok) throw new Error(response.status);
      const found = await response.json();
      pins.clearLayers();
      for (const cluster of found.cells) pins.addLayer(pin(cluster, found.sampled));
      if (pane.dataset.own && !pane.querySelector(".pin.own")) pins.addLayer(mark([latitude, longitude])); // within a cluster
      pane.classList.remove("stale");
    } catch (error) {
      if (error.name !== "AbortError") pane.classList.add("stale"); // what is shown stays, in grey
    }
  };

  /** A dot where a room is that has no pin of its own. */
  const mark = (place) => {
    const icon = L.divIcon({ className: "pointer", iconSize: [16, 16] });
    return L.marker(place, { icon, interactive: false, keyboard: false, zIndexOffset: 1000 });
  };

  /** Where a mark of this width and height lies within its cell, so that it covers no other: as near as can be to `middle`. */
  const inside = ([west, south, east, north], middle, [width, height]) => {
    const [low, high, at] = [[north, west], [south, east], middle].map((corner) => map.project(corner));
    const fit = (value, from, to, size) => (to - from <= size ? (from + to) / 2 : Math.min(Math.max(value, from + size / 2), to - size / 2));
    return map.unproject([fit(at.x, low.x, high.x, width), fit(at.y, low.y, high.y, height)]);
  };

  const WORDS = {
    sized: "{price} € a day, {size} m²",
    priced: "{price} € a day",
    lowest: "from {price} €",
    several: "{number} rooms from {price} €",
    about: "about {number} rooms from {price} €",
  };
  const words = (name, values) => (pane.dataset[name] ?? WORDS[name]).replace(/\{(\w+)\}/g, (_, key) => values[key]);

  /** A single room is its price, several are their number and the lowest price. */
  const pin = (cluster, sampled) => {
    const single = cluster.room;
    const middle = map.getCenter().lng;
    const shift = 360 * Math.round((middle - cluster.longitude) / 360);
    const [west, south, east, north] = cluster.bbox;
    const text = single ? `${number(single.price)} €` : short(cluster.count);
    const from = words("lowest", { price: number(cluster.min_price) });
    const title = words(single ? (single.size ? "sized" : "priced") : sampled ? "about" : "several", {
      price: number(single ? single.price : cluster.min_price),
      size: single?.size,
      number: number(cluster.count),
    });
    const size = single ? [12 + 8 * text.length, 24] : [Math.max(16 + 5 * from.length, 16 + 8 * text.length), 36];
    const icon = L.divIcon({
      className: single ? "pin" : "cluster",
      html: single ? `<span>${text}</span>` : `<b>${text}</b><small>${from}</small>`,
      iconSize: size,
    });
    const centre = [cluster.latitude, cluster.longitude + shift];
    const place = single ? centre : inside([west + shift, south, east + shift, north], centre, size);
    const marker = L.marker(place, { icon, title, alt: title, riseOnHover: true, zIndexOffset: single ? 500 : 0 });
    marker.on("click", () => {
      if (single) location.href = (pane.dataset.room ?? "/rooms/CODE").replace("CODE", single.code);
      else map.setView(centre, Math.min(map.getZoom() + 2, 18));
    });
    marker.on("keypress", (event) => {
      if (event.originalEvent.key === "Enter") marker.fire("click");
    });
    if (single) {
      marker.on("add", () => {
        marker.getElement().dataset.code = single.code;
        marker.getElement().classList.toggle("own", single.code === pane.dataset.own);
        marker.getElement().addEventListener("mouseenter", () => highlight(single.code, true));
        marker.getElement().addEventListener("mouseleave", () => highlight(single.code, false));
      });
    }
    return marker;
  };

  // --- Cards and pins in step

  let pointer = null;
  let lit = null;

  const highlight = (code, on) => document.querySelector(`.results [data-code="${code}"]`)?.classList.toggle("lit", on);

  /** Show where a card's room is: its own pin, else a mark within its cluster. */
  const light = (card) => {
    if (card === lit) return;
    lit = card;
    pointer?.remove();
    pointer = null;
    for (const old of pane.querySelectorAll(".pin.lit")) old.classList.remove("lit");
    if (!card) return;
    const own = pane.querySelector(`.pin[data-code="${card.dataset.code}"]`);
    if (own) own.classList.add("lit");
    else if (card.dataset.lat) pointer = mark([card.dataset.lat, card.dataset.lng]).addTo(map);
  };
  for (const event of ["mouseover", "focusin"]) {
    document.addEventListener(event, ({ target }) => light(target.closest?.(".results [data-code]") ?? null));
  }

  map.on("moveend resize", draw);
  draw();
  map.getContainer().setAttribute("aria-label", pane.dataset.label ?? "Map");
  if (!pane.dataset.area) return; // the page of one room
  const follows = "follow" in pane.dataset;

  // --- Searching the area that the map shows

  const area = () => {
    const url = new URL(location.href);
    for (const name of ["near", "within", "after", "before", "map", "p"]) url.searchParams.delete(name);
    if (url.searchParams.get("order")?.includes("distance")) url.searchParams.delete("order");
    url.searchParams.set("bbox", box());
    url.search = url.search.replaceAll("%2C", ",");
    url.hash = follows && !matchMedia("(min-width: 64rem)").matches ? "map" : "";
    return url;
  };

  const control = document.createElement("div");
  control.className = "area-control";
  const label = document.createElement("label");
  const follow = document.createElement("input");
  follow.type = "checkbox";
  follow.checked = follows && sessionStorage.getItem("search-as-i-move") === "on";
  label.append(follow, " search as I move");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = pane.dataset.area;
  button.hidden = true;
  if (follows) control.append(label);
  control.append(button);
  L.DomEvent.disableClickPropagation(control);
  pane.append(control);
  button.addEventListener("click", () => location.assign(area()));
  follow.addEventListener("change", () => {
    sessionStorage.setItem("search-as-i-move", follow.checked ? "on" : "off");
    if (follow.checked && !button.hidden) location.assign(area());
  });

  let moved = false;
  map.on("movestart", () => {
    moved = true;
  });
  map.on("moveend", () => {
    if (!moved) return;
    button.hidden = false;
    if (follow.checked) search();
  });

  /** The list of the map's area, in place: the map stays as it is. */
  let searching = null;
  const search = async () => {
    searching?.abort();
    searching = new AbortController();
    const url = area();
    try {
      const response = await fetch(url, { headers: { Accept: "text/html" }, signal: searching.signal });
      if (!response.ok) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      document.title = page.title;
      document.querySelector(".results").replaceWith(page.querySelector(".results"));
      query = new URL(page.getElementById("room-map").dataset.clusters, location.href);
      // One step back leads to the search before the map was moved.
      shown = url.search;
      if (history.state?.moved) history.replaceState({ moved: true }, "", url);
      else history.pushState({ moved: true }, "", url);
      document.dispatchEvent(new Event("results"));
    } catch (error) {
      if (error.name !== "AbortError") location.assign(url);
    }
  };
};

let shown = location.search;
addEventListener("popstate", () => {
  if (location.search !== shown) location.reload();
});

// --- On a phone the fragment swaps list and map: the map is fetched when it is seen first, the list keeps its place

let place = 0;
document.querySelector(".to-map")?.addEventListener("click", () => (place = scrollY));

addEventListener("hashchange", () => {
  if (location.hash === "#list") scrollTo(0, place);
});
const seen = new ResizeObserver(([{ contentRect }]) => {
  if (contentRect.width === 0) return;
  seen.disconnect();
  start();
});
seen.observe(pane);
