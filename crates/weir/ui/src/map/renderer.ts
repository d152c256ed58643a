// Draws the map on two canvases: land, graticule and zones below, redrawn when the view changes;
// devices above, redrawn when they move. Up to MARKS_MAX visible devices are marks with trails;
// more are pixels written straight into an ImageData, and heat where they crowd.
import { STATES, MARKS_MAX, TRAIL_MS, drawn, fleet, latOf, lonOf, mercatorX, mercatorY } from "../fleet";
import { latitude, longitude } from "../format";
import { lang } from "../i18n";
import { serverNow, zones } from "../state";
import { alpha, colour, rgb } from "../theme";
import type { State, Zone } from "../types";
import { land, traceRing } from "./land";

export interface View {
  /** Centre, Web Mercator 0 to 1. */
  x: number;
  y: number;
  /** The world is 256 * 2^zoom pixels wide. */
  zoom: number;
}

export const ZOOM_MIN = 0;
export const ZOOM_MAX = 19;
const FONT = '11px system-ui, "PingFang SC", "Noto Sans CJK SC", sans-serif';
const LABELS_MAX = 60;
/** Room a label needs, px², so that a small screen is not all labels. */
const LABEL_PX2 = 9_000;
/** Beyond this the basemap is coarser than the screen. */
const COARSE_ZOOM = 8.5;
const HEAT_CELL_PX = 6;
const HEAT_DEVICES = 8;
/** Left, top, right, bottom. */
type Rect = [number, number, number, number];
const overlap = (a: Rect, b: Rect): boolean => a[0] < b[2] && a[2] > b[0] && a[1] < b[3] && a[3] > b[1];

const colourOf: Record<State, string> = {
  ok: "--ok",
  warning: "--warning",
  critical: "--critical",
  info: "--info",
  unknown: "--unknown",
};

export class MapRenderer {
  view: View = { x: 0.5, y: 0.4, zoom: 1 };
  selected = "";
  hovered = "";
  width = 0;
  height = 0;
  /** Devices inside the picture at the last draw. */
  shown = 0;
  dense = false;
  draws = 0;
  private readonly base: CanvasRenderingContext2D;
  private readonly top: CanvasRenderingContext2D;
  private ratio = 1;
  private sprites = new Map<string, HTMLCanvasElement>();
  private visible = new Uint32Array(0);
  private image: ImageData | undefined;
  /** Where zones have their names. */
  private taken: Rect[] = [];

  constructor(
    base: HTMLCanvasElement,
    top: HTMLCanvasElement,
    private readonly small: boolean,
  ) {
    this.base = base.getContext("2d") as CanvasRenderingContext2D;
    this.top = top.getContext("2d") as CanvasRenderingContext2D;
  }

  resize(width: number, height: number): void {
    this.width = width;
    this.height = height;
    this.ratio = Math.min(2, devicePixelRatio || 1);
    for (const { canvas } of [this.base, this.top]) {
      canvas.width = Math.max(1, Math.round(width * this.ratio));
      canvas.height = Math.max(1, Math.round(height * this.ratio));
    }
    this.image = undefined;
  }

  forgetColours(): void {
    this.sprites.clear();
  }

  private get scale(): number {
    return 256 * 2 ** this.view.zoom;
  }
  toX = (x: number): number => (x - this.view.x) * this.scale + this.width / 2;
  toY = (y: number): number => (y - this.view.y) * this.scale + this.height / 2;
  xAt = (px: number): number => (px - this.width / 2) / this.scale + this.view.x;
  yAt = (py: number): number => (py - this.height / 2) / this.scale + this.view.y;

  setView(view: View): void {
    this.view = {
      x: Math.max(0, Math.min(1, view.x)),
      y: Math.max(0, Math.min(1, view.y)),
      zoom: Math.max(ZOOM_MIN, Math.min(ZOOM_MAX, view.zoom)),
    };
  }

  panPixels(dx: number, dy: number): void {
    this.setView({ ...this.view, x: this.view.x + dx / this.scale, y: this.view.y + dy / this.scale });
  }

  /** Zooms so that the place under the pixel stays there. */
  zoomAt(delta: number, px = this.width / 2, py = this.height / 2): void {
    const [x, y] = [this.xAt(px), this.yAt(py)];
    this.setView({ ...this.view, zoom: this.view.zoom + delta });
    this.setView({ ...this.view, x: this.view.x + x - this.xAt(px), y: this.view.y + y - this.yAt(py) });
  }

  /** Shows all devices, or the zones while there is none; false if there is nothing to show. */
  fit(): boolean {
    const box = [1, 1, 0, 0] as [number, number, number, number];
    const add = (x: number, y: number): void => {
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x);
      box[3] = Math.max(box[3], y);
    };
    for (let slot = 0; slot < fleet.count; slot += 1) {
      if (fleet.ids[slot] !== undefined) add(fleet.x[slot] as number, fleet.y[slot] as number);
    }
    const any = box[2] >= box[0];
    if (!any) for (const zone of zones.value) for (const ring of zone.rings) for (const [lon, lat] of ring) add(mercatorX(lon), mercatorY(lat));
    if (box[2] < box[0] || this.width === 0) return false;
    const room = 0.78;
    const fit = (px: number, span: number): number => Math.log2((px * room) / (256 * Math.max(span, 1e-7)));
    const zoom = Math.min(fit(this.width, box[2] - box[0]), fit(this.height, box[3] - box[1]), 16);
    this.setView({ x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2, zoom });
    return any;
  }

  // The quiet part.

  drawBase(): void {
    const { base } = this;
    base.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    base.fillStyle = colour("--sea");
    base.fillRect(0, 0, this.width, this.height);
    this.drawLand(base);
    this.drawGraticule(base);
    this.taken = [];
    for (const zone of zones.value) this.drawZone(base, zone, this.taken);
    if (!this.small) this.drawScaleBar(base);
  }

  private drawLand(base: CanvasRenderingContext2D): void {
    const margin = 8;
    const box: [number, number, number, number] = [
      this.xAt(-margin),
      this.yAt(-margin),
      this.xAt(this.width + margin),
      this.yAt(this.height + margin),
    ];
    const path = new Path2D();
    for (const ring of land()) traceRing(path, ring, box, this.toX, this.toY);
    base.fillStyle = colour("--land");
    base.fill(path, "evenodd");
    // The coast is known to some kilometres (1:50 million). Close up it must not say which side is
    // water: the fill fades away and a dashed line is left.
    const close = Math.max(0, Math.min(1, (this.view.zoom - COARSE_ZOOM) / 2));
    base.fillStyle = alpha("--land", close);
    base.fillRect(0, 0, this.width, this.height);
    base.strokeStyle = alpha("--coast", 1 - 0.3 * close);
    base.lineWidth = 1;
    if (close > 0) base.setLineDash([6, 5]);
    base.stroke(path);
    base.setLineDash([]);
  }

  private drawGraticule(base: CanvasRenderingContext2D): void {
    const steps = [30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
    const perDegree = this.scale / 360;
    const step = steps.findLast((degrees) => degrees * perDegree >= 110) ?? 30;
    const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
    base.strokeStyle = colour("--graticule");
    base.fillStyle = colour("--dim");
    base.font = FONT;
    base.lineWidth = 1;
    base.beginPath();
    const labels: [string, number, number][] = [];
    const [west, east] = [lonOf(Math.max(0, this.xAt(0))), lonOf(Math.min(1, this.xAt(this.width)))];
    for (let n = Math.ceil(west / step); n * step <= east; n += 1) {
      const x = Math.round(this.toX(mercatorX(n * step))) + 0.5;
      base.moveTo(x, 0);
      base.lineTo(x, this.height);
      if (x > 90 && x < this.width - 60) labels.push([longitude(n * step, digits), x + 4, 14]);
    }
    const [south, north] = [latOf(Math.min(1, this.yAt(this.height))), latOf(Math.max(0, this.yAt(0)))];
    for (let n = Math.ceil(south / step); n * step <= north; n += 1) {
      const y = Math.round(this.toY(mercatorY(n * step))) + 0.5;
      base.moveTo(0, y);
      base.lineTo(this.width, y);
      if (y > 24 && y < this.height - 40) labels.push([latitude(n * step, digits), 6, y - 4]);
    }
    base.stroke();
    if (!this.small) for (const [text, x, y] of labels) base.fillText(text, x, y);
  }

  private drawZone(base: CanvasRenderingContext2D, zone: Zone, taken: Rect[]): void {
    const name = zone.critical ? "--critical" : "--warning";
    const path = new Path2D();
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const ring of zone.rings) {
      ring.forEach(([lon, lat], at) => {
        const x = this.toX(mercatorX(lon));
        const y = this.toY(mercatorY(lat));
        left = Math.min(left, x);
        right = Math.max(right, x);
        top = Math.min(top, y);
        bottom = Math.max(bottom, y);
        if (at === 0) path.moveTo(x, y);
        else path.lineTo(x, y);
      });
      path.closePath();
    }
    if (right < 0 || left > this.width || bottom < 0 || top > this.height) return;
    base.save();
    base.fillStyle = alpha(name, 0.05);
    base.fill(path, "evenodd");
    base.clip(path, "evenodd");
    this.hatch(base, name, Math.max(0, left), Math.min(this.width, right), Math.max(0, top), Math.min(this.height, bottom));
    base.restore();
    base.strokeStyle = alpha(name, 0.75);
    base.lineWidth = 1;
    base.stroke(path);
    if (!this.small && right - left > 24) this.zoneLabel(base, zone, name, (left + right) / 2, top, taken);
  }

  /** Lines are fixed to the ground, so that they move with the zone. */
  private hatch(base: CanvasRenderingContext2D, name: string, left: number, right: number, top: number, bottom: number): void {
    const gap = 8;
    const shift = ((this.toX(0.5) + this.toY(0.5)) % gap) - gap;
    base.beginPath();
    for (let c = Math.floor((left + top) / gap) * gap + shift; c < right + bottom; c += gap) {
      base.moveTo(c - top, top);
      base.lineTo(c - bottom, bottom);
    }
    base.strokeStyle = alpha(name, 0.28);
    base.lineWidth = 1;
    base.stroke();
  }

  private zoneLabel(base: CanvasRenderingContext2D, zone: Zone, name: string, x: number, top: number, taken: Rect[]): void {
    const band =
      zone.floor_m === null && zone.ceiling_m === null ? "" : `${zone.floor_m ?? 0}–${zone.ceiling_m ?? "∞"} m`;
    const text = [zone.name[lang.value], band].filter(Boolean).join(" · ");
    base.font = FONT;
    const width = base.measureText(text).width + 8;
    const box: Rect = [x - width / 2, top - 18, x + width / 2, top - 3];
    if (taken.some((other) => overlap(other, box))) return;
    taken.push(box);
    base.fillStyle = alpha("--land", 0.8);
    base.fillRect(box[0], box[1], width, 15);
    base.fillStyle = colour(name);
    base.fillText(text, box[0] + 4, top - 7);
  }

  private drawScaleBar(base: CanvasRenderingContext2D): void {
    const metresPerPixel = (40_075_016.7 * Math.cos((latOf(this.view.y) * Math.PI) / 180)) / this.scale;
    const target = metresPerPixel * 120;
    const power = 10 ** Math.floor(Math.log10(target));
    const metres = ([5, 2, 1].find((n) => n * power <= target) ?? 1) * power;
    const width = metres / metresPerPixel;
    const text = metres >= 1000 ? `${metres / 1000} km` : `${metres} m`;
    const [x, y] = [12, this.height - 14];
    base.strokeStyle = base.fillStyle = colour("--text2");
    base.lineWidth = 1.5;
    base.beginPath();
    base.moveTo(x, y - 5);
    base.lineTo(x, y);
    base.lineTo(x + width, y);
    base.lineTo(x + width, y - 5);
    base.stroke();
    base.font = FONT;
    base.fillText(text, x + width + 6, y + 1);
  }

  // The moving part.

  drawTop(): void {
    const { top } = this;
    top.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    top.clearRect(0, 0, this.width, this.height);
    const count = this.collectVisible();
    this.shown = count;
    this.dense = count > MARKS_MAX;
    if (this.dense) this.drawPoints(count);
    else {
      this.drawTrails(count);
      this.drawMarks(count);
    }
    this.drawChosen();
    this.draws += 1;
    drawn();
  }

  private collectVisible(): number {
    if (this.visible.length < fleet.count) this.visible = new Uint32Array(fleet.x.length);
    const margin = 16 / this.scale;
    const [left, right] = [this.xAt(0) - margin, this.xAt(this.width) + margin];
    const [top, bottom] = [this.yAt(0) - margin, this.yAt(this.height) + margin];
    const { x, y, ids } = fleet;
    let count = 0;
    for (let slot = 0; slot < fleet.count; slot += 1) {
      const [px, py] = [x[slot] as number, y[slot] as number];
      if (px >= left && px <= right && py >= top && py <= bottom && ids[slot] !== undefined) {
        this.visible[count++] = slot;
      }
    }
    return count;
  }

  private drawTrails(count: number): void {
    const { top } = this;
    const now = serverNow();
    // One path per age class: four strokes however many devices there are.
    const classes = [0.6, 0.42, 0.27, 0.14].map((opacity) => ({ opacity, path: new Path2D() }));
    for (let n = 0; n < count; n += 1) {
      const slot = this.visible[n] as number;
      const trail = fleet.trails[slot];
      if (!trail) continue;
      let [px, py] = [NaN, NaN];
      for (const at of trail.order()) {
        const age = now - (trail.t[at] as number);
        const [x, y] = [this.toX(trail.x[at] as number), this.toY(trail.y[at] as number)];
        if (age < TRAIL_MS && !Number.isNaN(px)) {
          const path = classes[Math.min(3, Math.max(0, Math.floor((age / TRAIL_MS) * 4)))]?.path;
          path?.moveTo(px, py);
          path?.lineTo(x, y);
        }
        [px, py] = [x, y];
      }
      const [x, y] = [this.toX(fleet.x[slot] as number), this.toY(fleet.y[slot] as number)];
      if (!Number.isNaN(px)) {
        classes[0]?.path.moveTo(px, py);
        classes[0]?.path.lineTo(x, y);
      }
    }
    top.lineWidth = this.small ? 1 : 1.5;
    for (const { opacity, path } of classes) {
      top.strokeStyle = alpha("--trail", opacity);
      top.stroke(path);
    }
  }

  private drawMarks(count: number): void {
    // The worst are drawn last, on top.
    for (const state of ["info", "unknown", "ok", "warning", "critical"] as State[]) {
      const wanted = STATES.indexOf(state);
      for (let n = 0; n < count; n += 1) {
        const slot = this.visible[n] as number;
        if (fleet.state[slot] !== wanted) continue;
        this.drawMark(slot, state);
      }
    }
    if (this.small || count > Math.min(LABELS_MAX, (this.width * this.height) / LABEL_PX2)) return;
    this.drawLabels(count);
  }

  /** An id beside each mark, at the first of four corners that is free. */
  private drawLabels(count: number): void {
    const { top } = this;
    top.font = FONT;
    top.textAlign = "left";
    const taken = [...this.taken];
    for (let n = 0; n < count; n += 1) {
      const slot = this.visible[n] as number;
      const text = fleet.ids[slot] as string;
      const [markX, markY] = [this.toX(fleet.x[slot] as number), this.toY(fleet.y[slot] as number)];
      const width = top.measureText(text).width;
      const corners = [[10, -7], [-10 - width, -7], [10, 15], [-10 - width, 15]] as const;
      const places = corners.map(([dx, dy]): Rect => [markX + dx, markY + dy - 10, markX + dx + width, markY + dy + 2]);
      const place = places.find((rect) => !taken.some((other) => overlap(other, rect)));
      if (!place) continue;
      taken.push(place);
      const [x, y] = [place[0], place[3] - 2];
      top.lineWidth = 3;
      top.strokeStyle = alpha("--land", 0.85);
      top.strokeText(text, x, y);
      top.fillStyle = colour("--text2");
      top.fillText(text, x, y);
    }
  }

  private drawMark(slot: number, state: State): void {
    const x = this.toX(fleet.x[slot] as number);
    const y = this.toY(fleet.y[slot] as number);
    const heading = fleet.heading[slot] as number;
    const moving = (fleet.speed[slot] as number) > 0.3 && !Number.isNaN(heading) && state !== "unknown";
    // 64 directions are finer than a mark of 16 px can show.
    const turn = moving ? Math.round(heading / 5.625) % 64 : -1;
    const sprite = this.sprite(state, turn);
    const side = sprite.width / this.ratio;
    this.top.drawImage(sprite, x - side / 2, y - side / 2, side, side);
  }

  private sprite(state: State, turn: number): HTMLCanvasElement {
    const key = `${state}${turn}`;
    let sprite = this.sprites.get(key);
    if (!sprite) {
      sprite = document.createElement("canvas");
      const side = this.small ? 18 : 28;
      sprite.width = sprite.height = side * this.ratio;
      const g = sprite.getContext("2d") as CanvasRenderingContext2D;
      g.scale(this.ratio, this.ratio);
      g.translate(side / 2, side / 2);
      drawGlyph(g, state, turn < 0 ? null : (turn / 64) * 2 * Math.PI, this.small ? 3.2 : 5);
      this.sprites.set(key, sprite);
    }
    return sprite;
  }

  private drawChosen(): void {
    for (const [id, strong] of [
      [this.hovered, false],
      [this.selected, true],
    ] as const) {
      const slot = id ? fleet.bySlot.get(id) : undefined;
      if (slot === undefined) continue;
      const { top } = this;
      const [x, y] = [this.toX(fleet.x[slot] as number), this.toY(fleet.y[slot] as number)];
      if (this.dense) this.drawMark(slot, STATES[fleet.state[slot] as number] ?? "unknown");
      top.strokeStyle = strong ? colour("--accent") : colour("--text2");
      top.lineWidth = strong ? 2 : 1;
      top.beginPath();
      top.arc(x, y, 13, 0, 2 * Math.PI);
      top.stroke();
    }
  }

  /** Many devices: a pixel square each, and warm cells where a square could not be told apart. */
  private drawPoints(count: number): void {
    const { top } = this;
    const [width, height] = [top.canvas.width, top.canvas.height];
    if (!this.image || this.image.width !== width || this.image.height !== height) {
      this.image = new ImageData(width, height);
    }
    const pixels = new Uint32Array(this.image.data.buffer);
    pixels.fill(0);
    // Little endian: alpha, blue, green, red.
    const palette = Uint32Array.from(STATES, (state) => {
      const [r, g, b] = rgb(colourOf[state]);
      return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
    });
    const cell = HEAT_CELL_PX * this.ratio;
    const across = Math.ceil(width / cell);
    const crowd = new Uint16Array(across * Math.ceil(height / cell));
    const scale = this.scale * this.ratio;
    const [offX, offY] = [width / 2 - this.view.x * scale, height / 2 - this.view.y * scale];
    const side = this.ratio > 1 ? 4 : 3;
    for (let n = 0; n < count; n += 1) {
      const slot = this.visible[n] as number;
      const px = ((fleet.x[slot] as number) * scale + offX) | 0;
      const py = ((fleet.y[slot] as number) * scale + offY) | 0;
      if (px < 1 || py < 1 || px >= width - side || py >= height - side) continue;
      const at = ((py / cell) | 0) * across + ((px / cell) | 0);
      crowd[at] = (crowd[at] as number) + 1;
      const tint = palette[fleet.state[slot] as number] as number;
      for (let row = 0, start = py * width + px; row < side; row += 1, start += width) {
        for (let column = 0; column < side; column += 1) pixels[start + column] = tint;
      }
    }
    top.putImageData(this.image, 0, 0);
    this.drawHeat(crowd, across, cell / this.ratio);
  }

  private drawHeat(crowd: Uint16Array, across: number, cell: number): void {
    const { top } = this;
    const [r, g, b] = rgb("--heat");
    crowd.forEach((devices, at) => {
      if (devices < HEAT_DEVICES) return;
      const opacity = Math.min(0.9, 0.35 + 0.18 * Math.log2(devices / HEAT_DEVICES));
      top.fillStyle = `rgba(${r},${g},${b},${opacity.toFixed(2)})`;
      top.fillRect((at % across) * cell, Math.floor(at / across) * cell, cell, cell);
    });
  }

  /** The device nearest to a pixel, within reach of a finger. */
  hit(px: number, py: number): string {
    const reach = 14;
    let [best, distance] = ["", reach * reach];
    for (let n = 0; n < this.shown; n += 1) {
      const slot = this.visible[n] as number;
      const dx = this.toX(fleet.x[slot] as number) - px;
      const dy = this.toY(fleet.y[slot] as number) - py;
      if (dx * dx + dy * dy < distance) {
        distance = dx * dx + dy * dy;
        best = fleet.ids[slot] ?? "";
      }
    }
    return best;
  }
}

/** A state's shape, with a nose where it is heading (radians clockwise from north). */
function drawGlyph(g: CanvasRenderingContext2D, state: State, heading: number | null, size: number): void {
  const body = new Path2D();
  if (state === "ok" || state === "unknown") body.arc(0, 0, size * 0.86, 0, 2 * Math.PI);
  else if (state === "warning") polygon(body, [[0, -1.15], [1.08, 0.8], [-1.08, 0.8]], size);
  else if (state === "critical") polygon(body, [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]], size);
  else polygon(body, [[0, -1.1], [1.1, 0], [0, 1.1], [-1.1, 0]], size);
  const nose = new Path2D();
  if (heading !== null) {
    const pointer = new Path2D();
    polygon(pointer, [[-0.72, -0.7], [0, -2.1], [0.72, -0.7]], size);
    nose.addPath(pointer, new DOMMatrix().rotate((heading * 180) / Math.PI));
  }
  g.lineJoin = "round";
  // The ground shows around the whole mark, so that marks on one another stay apart.
  g.lineWidth = 2.5;
  g.strokeStyle = colour("--land");
  g.stroke(nose);
  g.stroke(body);
  g.fillStyle = g.strokeStyle = colour(colourOf[state]);
  g.fill(nose);
  g.lineWidth = 1.5;
  if (state === "unknown") g.stroke(body);
  else g.fill(body);
}

function polygon(path: Path2D, corners: [number, number][], size: number): void {
  corners.forEach(([x, y], at) => (at === 0 ? path.moveTo(x * size, y * size) : path.lineTo(x * size, y * size)));
  path.closePath();
}
