/*
 * Streets from one PMTiles file: each tile is a request for a range of its bytes. Images are drawn on a canvas, as
 * the policy allows no `blob:` in an <img>; vector tiles are painted by protomaps-leaflet, fetched for them only.
 */

const VECTOR = 1; // the header's tile type for Mapbox Vector Tiles

const load = (src) =>
  new Promise((resolve, reject) => {
    document.head.append(Object.assign(document.createElement("script"), { src, onload: resolve, onerror: reject }));
  });

/** A layer of the images in the file. */
const images = (file, options) => {
  const layer = L.gridLayer(options);
  layer.createTile = ({ z, x, y }, done) => {
    const canvas = document.createElement("canvas");
    const draw = async () => {
      const tile = await file.getZxy(z, x, y);
      if (!tile) return; // the sea, or beyond the file's area
      const image = await createImageBitmap(new Blob([tile.data]));
      [canvas.width, canvas.height] = [image.width, image.height];
      canvas.getContext("2d").drawImage(image, 0, 0);
    };
    draw().then(() => done(null, canvas), (error) => done(error, canvas));
    return canvas;
  };
  return layer;
};

/** Draw the file of the map's element over the background. */
export default async (map, { pmtiles, reader, painter, attribution }) => {
  await load(reader);
  const file = new window.pmtiles.PMTiles(pmtiles);
  const { tileType, minZoom, maxZoom } = await file.getHeader();
  const options = { attribution, zIndex: 2, maxZoom: 19 };
  if (tileType === VECTOR) {
    await load(painter);
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    protomapsL.leafletLayer({ ...options, url: file, maxDataZoom: maxZoom, flavor: dark ? "dark" : "light", lang: "en" }).addTo(map);
  } else {
    images(file, { ...options, minNativeZoom: minZoom, maxNativeZoom: maxZoom }).addTo(map);
  }
};
