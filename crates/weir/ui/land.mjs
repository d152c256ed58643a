// Turns Natural Earth's land at 1:50 m (npm world-atlas, public domain) into the map's own format:
//
//   "WLND", u8 version 1, 3 zero bytes,
//   f64 x 4 little endian: degrees per step (lon, lat), origin (lon, lat),
//   varint rings; each ring: varint points, then per point zigzag varints of the steps from the
//   point before (lon, lat). Rings are closed by the reader and filled by the even-odd rule.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { feature } from "topojson-client";

export function landBytes() {
  const atlas = createRequire(import.meta.url).resolve("world-atlas/land-50m.json");
  const topology = JSON.parse(readFileSync(atlas, "utf8"));
  const { scale, translate } = topology.transform;
  const land = feature(topology, topology.objects.land);
  const shapes = land.type === "FeatureCollection" ? land.features.map((f) => f.geometry) : [land.geometry];
  const polygons = shapes.flatMap((g) => (g.type === "Polygon" ? [g.coordinates] : g.coordinates));

  const head = Buffer.alloc(40);
  head.write("WLND", 0, "latin1");
  head[4] = 1;
  [...scale, ...translate].forEach((value, at) => head.writeDoubleLE(value, 8 + at * 8));

  const out = [];
  const rings = polygons.flat();
  varint(out, rings.length);
  for (const ring of rings) {
    const open = ring.slice(0, -1);
    varint(out, open.length);
    let [px, py] = [0, 0];
    for (const [lon, lat] of open) {
      const x = Math.round((lon - translate[0]) / scale[0]);
      const y = Math.round((lat - translate[1]) / scale[1]);
      varint(out, zigzag(x - px));
      varint(out, zigzag(y - py));
      [px, py] = [x, y];
    }
  }
  return Buffer.concat([head, Buffer.from(out)]);
}

function zigzag(n) {
  return n < 0 ? -2 * n - 1 : 2 * n;
}

function varint(out, n) {
  while (n >= 128) {
    out.push((n % 128) | 128);
    n = Math.floor(n / 128);
  }
  out.push(n);
}
