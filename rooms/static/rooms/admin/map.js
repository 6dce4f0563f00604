/*
 * The map in a room's form: shows the place, sets it by a click, a drag, the arrow keys or a pasted address.
 *
 * The two number fields stay what is sent; without this script they are all there is. The background
 * is that of the public pages, with settings.MAP_TILES_URL over it; the other rooms are dots.
 */
"use strict";

{
  const STREETS = 15; // zoom of a room on a map of others
  const NAMES = 13; // and on ours, which has no streets, but districts
  const NEIGHBOURS = 200;
  const STEP = 10; // pixels that an arrow key moves the pin, one with Shift
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  const NUMBER = "(-?\\d{1,3}(?:\\.\\d+)?)";
  // A place as maps write it into addresses, the exact ones before the middle of the screen.
  const PLACES = [
    new RegExp(`!3d${NUMBER}!4d${NUMBER}`),
    new RegExp(`[?&#]mlat=${NUMBER}&mlon=${NUMBER}`),
    new RegExp(`[?&](?:q|query|ll|destination|daddr)=(?:loc:)?${NUMBER}(?:,|%2C)\\+?${NUMBER}`, "i"),
    new RegExp(`[#&]map=[\\d.]+/${NUMBER}/${NUMBER}`),
    new RegExp(`@${NUMBER},${NUMBER}`),
    new RegExp(`^geo:${NUMBER},${NUMBER}`),
    new RegExp(`[?&](?:cp|sll|coordinate|center)=${NUMBER}(?:,|~|%2C)${NUMBER}`, "i"), // Apple and Bing Maps
    new RegExp(`^\\(?${NUMBER}°?\\s*[,; ]\\s*${NUMBER}°?\\)?$`),
  ];

  const DECIMAL_COMMAS = /^(-?\d{1,3}),(\d+)\s*[;\s]\s*(-?\d{1,3}),(\d+)$/;
  // 41° 24' 12.2" N, as maps and devices write it; minutes and seconds may be missing.
  const ANGLE = "(\\d{1,3}(?:[.,]\\d+)?)\\s*[°d]\\s*(?:(\\d{1,2}(?:[.,]\\d+)?)\\s*['′’]\\s*)?(?:(\\d{1,2}(?:[.,]\\d+)?)\\s*(?:[\"″”]|'')\\s*)?";
  const ANGLES = new RegExp(`^${ANGLE}([NS])[,;\\s]*${ANGLE}([EWO])$`, "i");

  /** Degrees from degrees, minutes, seconds and the letter of the direction. */
  const degrees = (parts, letter) => {
    const [whole, minutes, seconds] = parts.map((part) => Number((part ?? "0").replace(",", ".")));
    if (minutes >= 60 || seconds >= 60) return NaN;
    return (whole + minutes / 60 + seconds / 3600) * ("SW".includes(letter.toUpperCase()) ? -1 : 1);
  };

  const inRange = ([lat, lng]) => Math.abs(lat) <= 90 && Math.abs(lng) <= 180;

  const angles = (text) => {
    const found = ANGLES.exec(text);
    if (!found) return null;
    const place = [degrees(found.slice(1, 4), found[4]), degrees(found.slice(5, 8), found[8])];
    return inRange(place) ? place : null;
  };

  /** The [latitude, longitude] that a text means: coordinates, or a map's URL. */
  const placeIn = (pasted) => {
    const text = pasted.trim().replace(DECIMAL_COMMAS, "$1.$2, $3.$4");
    for (const place of PLACES) {
      const found = place.exec(text);
      if (found && inRange([found[1], found[2]])) return [Number(found[1]), Number(found[2])];
    }
    return angles(text);
  };

  const start = (element) => {
    const texts = document.getElementById("form-texts").dataset;
    const latitude = document.getElementById("id_latitude");
    const longitude = document.getElementById("id_longitude");
    const editable = Boolean(latitude && longitude);
    const near = element.dataset.attribution ? STREETS : NAMES;
    const typed = () =>
      editable
        ? latitude.value && longitude.value && placeIn(`${latitude.value}, ${longitude.value}`)
        : placeIn(element.dataset.place);

    L.Control.Zoom.mergeOptions({ zoomInTitle: texts.zoomIn, zoomOutTitle: texts.zoomOut });
    const map = L.map(element, { worldCopyJump: true, minZoom: 1, maxZoom: 19, attributionControl: Boolean(element.dataset.attribution) });
    map.attributionControl?.setPrefix(false);
    L.control.scale({ imperial: false }).addTo(map);
    L.tileLayer("/map/{z}/{x}/{y}.svg", { maxZoom: 19, maxNativeZoom: 18 }).addTo(map);
    if (element.dataset.tiles) {
      L.tileLayer(element.dataset.tiles, { attribution: element.dataset.attribution, zIndex: 3, maxZoom: 19, referrerPolicy: "strict-origin" }).addTo(map);
    }
    if (element.dataset.pmtiles) import(element.dataset.streets).then((streets) => streets.default(map, element.dataset));
    const neighbours = L.layerGroup().addTo(map);
    const pin = L.marker([0, 0], {
      draggable: editable,
      alt: texts.thisRoom,
      title: editable ? texts.drag : texts.thisRoom,
      icon: L.divIcon({ className: "place-pin", html: "<span></span>", iconSize: [24, 24], iconAnchor: [12, 29] }),
    });

    /** Move the pin to the coordinates of the fields. */
    const show = (zoom) => {
      const place = typed();
      if (!place) {
        pin.remove();
        return false;
      }
      pin.setLatLng(place).addTo(map);
      if (zoom) map.setView(place, zoom);
      else if (!map.getBounds().contains(place)) map.panTo(place);
      return true;
    };

    /** Write coordinates into the fields, to a centimetre, and dispatch their change events. */
    const set = ([lat, lng], zoom) => {
      latitude.value = Number(lat.toFixed(7));
      longitude.value = Number(lng.toFixed(7));
      for (const field of [latitude, longitude]) field.dispatchEvent(new Event("change", { bubbles: true }));
      show(zoom);
    };

    map.on("moveend", () => drawNeighbours(map, neighbours, element.dataset.code));
    if (!show(near)) {
      map.setView([30, 10], 1);
      fitRooms(map, () => !typed());
    }
    if (!editable) return;

    map.on("click", (event) => {
      const { lat, lng } = event.latlng.wrap();
      set([lat, lng]);
    });
    pin.on("dragend", () => {
      const { lat, lng } = pin.getLatLng().wrap();
      set([lat, lng]);
    });
    pin.on("keydown", ({ originalEvent: event }) => {
      const arrow = ARROWS[event.key];
      if (!arrow) return;
      event.preventDefault();
      event.stopPropagation(); // the map stays
      const step = event.shiftKey ? 1 : STEP;
      const pixel = map.project(pin.getLatLng()).add([arrow[0] * step, arrow[1] * step]);
      const { lat, lng } = map.unproject(pixel).wrap();
      set([lat, lng]);
    });
    // Without a mouse the first pin is put into the middle of the map.
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target !== element) return;
      event.preventDefault(); // Enter submits the form
      const { lat, lng } = map.getCenter().wrap();
      set([lat, lng]);
      pin.getElement().focus();
    });
    for (const field of [latitude, longitude]) {
      field.addEventListener("input", () => show());
      field.addEventListener("paste", (event) => {
        const place = placeIn(event.clipboardData.getData("text"));
        if (place) {
          event.preventDefault();
          set(place, near);
        }
      });
    }
    element.before(pasteField((place) => set(place, near), texts));
  };

  /** The field for pasted coordinates and URLs of maps. */
  const pasteField = (take, texts) => {
    const row = document.createElement("div");
    row.className = "place-paste";
    const label = document.createElement("label");
    label.htmlFor = "place-paste";
    label.textContent = texts.paste;
    const input = document.createElement("input");
    input.type = "text";
    input.id = "place-paste";
    input.autocomplete = "off";
    input.placeholder = texts.example;
    const message = document.createElement("output");
    message.htmlFor = "place-paste";
    const read = () => {
      const place = input.value && placeIn(input.value);
      message.textContent =
        input.value && !place ? texts.noPlace : "";
      if (place) take(place);
    };
    input.addEventListener("input", read);
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault(); // Enter submits the form
        read();
      }
    });
    row.append(label, input, message);
    return row;
  };

  /** Show where the rooms are, as long as the room has no place itself; errors leave the world. */
  const fitRooms = async (map, unplaced) => {
    try {
      const response = await fetch("/rooms/stats", { headers: { Accept: "application/json" } });
      const { bbox } = await response.json();
      if (!bbox || !unplaced()) return;
      const [west, south, east, north] = bbox;
      map.fitBounds([[south, west], [north, west > east ? east + 360 : east]], { maxZoom: NAMES, animate: false });
    } catch {
      // no rooms, or no server
    }
  };

  let pending = null;

  /** Rooms nearby as dots, from the API; errors leave the map without them. */
  const drawNeighbours = async (map, layer, code) => {
    pending?.abort();
    pending = new AbortController();
    if (map.getZoom() < 9) {
      layer.clearLayers();
      return;
    }
    const bounds = map.getBounds();
    const box = [bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()];
    if (box[0] < -180 || box[2] > 180) return;
    try {
      const response = await fetch(`/rooms.json?limit=${NEIGHBOURS}&bbox=${box.map((x) => x.toFixed(6)).join(",")}`, { signal: pending.signal });
      const rooms = response.ok ? await response.json() : [];
      layer.clearLayers();
      for (const room of rooms) {
        if (room.code === code) continue;
        L.circleMarker([room.latitude, room.longitude], { className: "place-neighbour", radius: 4, weight: 1, interactive: false }).addTo(layer);
      }
    } catch (error) {
      if (error.name !== "AbortError") layer.clearLayers();
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    for (const element of document.querySelectorAll(".room-map")) start(element);
  });
}
