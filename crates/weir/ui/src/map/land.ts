// The basemap: rings of land, decoded from land.bin (format: ui/land.mjs) into Web Mercator.
import { mercatorX, mercatorY } from "../fleet";

export interface Ring {
  /** x, y, x, y, ... in 0 to 1. */
  points: Float64Array;
  box: [number, number, number, number];
}

let rings: Ring[] | undefined;
let pending: Promise<Ring[]> | undefined;

export const land = (): Ring[] => rings ?? [];

/** Fetches the land once; the map is usable before it is there. */
export function loadLand(): Promise<Ring[]> {
  pending ??= fetch("/land.bin")
    .then((answer) => answer.arrayBuffer())
    .then((buffer) => (rings = decode(buffer)));
  return pending;
}

function decode(buffer: ArrayBuffer): Ring[] {
  const view = new DataView(buffer);
  const head = [8, 16, 24, 32].map((at) => view.getFloat64(at, true)) as [number, number, number, number];
  const bytes = new Uint8Array(buffer);
  let at = 40;
  const varint = (): number => {
    let [value, scale] = [0, 1];
    for (;;) {
      const byte = bytes[at++] as number;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
  };
  const step = (): number => {
    const n = varint();
    return n % 2 ? -(n + 1) / 2 : n / 2;
  };
  return Array.from({ length: varint() }, () => {
    const points = new Float64Array(varint() * 2);
    const box: Ring["box"] = [1, 1, 0, 0];
    let [lon, lat] = [0, 0];
    for (let n = 0; n < points.length; n += 2) {
      lon += step();
      lat += step();
      const x = (points[n] = mercatorX(lon * head[0] + head[2]));
      const y = (points[n + 1] = mercatorY(lat * head[1] + head[3]));
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x);
      box[3] = Math.max(box[3], y);
    }
    return { points, box };
  });
}

type Box = [number, number, number, number];

/** Adds the part of a ring inside `box` to the path, in pixels; points closer than a pixel merge. */
export function traceRing(
  path: Path2D,
  ring: Ring,
  box: Box,
  toX: (x: number) => number,
  toY: (y: number) => number,
): void {
  const outside = ring.box[0] > box[2] || ring.box[2] < box[0] || ring.box[1] > box[3] || ring.box[3] < box[1];
  if (outside) return;
  const whole = ring.box[0] >= box[0] && ring.box[2] <= box[2] && ring.box[1] >= box[1] && ring.box[3] <= box[3];
  const points = whole ? ring.points : clip(ring.points, box);
  let [px, py] = [Infinity, Infinity];
  for (let n = 0; n < points.length; n += 2) {
    const x = toX(points[n] as number);
    const y = toY(points[n + 1] as number);
    if (n === 0) path.moveTo(x, y);
    else if (Math.abs(x - px) + Math.abs(y - py) < 1) continue;
    else path.lineTo(x, y);
    [px, py] = [x, y];
  }
  path.closePath();
}

/** Sutherland-Hodgman: at city zoom a continent would else be millions of pixels wide. */
function clip(ring: ArrayLike<number>, box: Box): ArrayLike<number> {
  let points = ring;
  for (const [axis, edge, sign] of [
    [0, box[0], 1],
    [0, box[2], -1],
    [1, box[1], 1],
    [1, box[3], -1],
  ] as const) {
    const out: number[] = [];
    const count = points.length;
    for (let n = 0; n < count; n += 2) {
      const from = (n + count - 2) % count;
      const a = (points[from + axis] as number) * sign - edge * sign;
      const b = (points[n + axis] as number) * sign - edge * sign;
      const [bx, by] = [points[n] as number, points[n + 1] as number];
      if (a < 0 !== b < 0) {
        const [ax, ay] = [points[from] as number, points[from + 1] as number];
        const part = a / (a - b);
        out.push(ax + (bx - ax) * part, ay + (by - ay) * part);
      }
      if (b >= 0) out.push(bx, by);
    }
    points = out;
  }
  return points;
}
