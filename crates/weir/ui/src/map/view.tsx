// The map as an element: size, mouse, touch, keyboard, and when to draw.
import { useEffect, useRef } from "preact/hooks";
import { effect } from "@preact/signals";
import { census, fleet, latOf, lonOf, mercatorX, mercatorY } from "../fleet";
import { lang, t } from "../i18n";
import { onPositions } from "../live";
import { quarter, zones } from "../state";
import { colours } from "../theme";
import { go, page, param, setParams } from "../url";
import { loadLand } from "./land";
import { MapRenderer } from "./renderer";

/** The maps on the page now, for the keyboard and the test. */
export const maps = new Set<MapRenderer>();
export let mainMap: { fit(): void; centre(id: string): void; zoom(delta: number): void } | undefined;

export function MapView({ small = false }: { small?: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const base = useRef<HTMLCanvasElement>(null);
  const top = useRef<HTMLCanvasElement>(null);
  const map = useRef<Controller | undefined>(undefined);

  useEffect(() => {
    if (!box.current || !base.current || !top.current) return;
    const control = new Controller(box.current, base.current, top.current, small);
    map.current = control;
    return () => control.stop();
  }, [small]);
  // The chosen device is in the address, which may change without this element.
  const chosen = param("device");
  useEffect(() => map.current?.choose(chosen), [chosen]);

  const { total, states } = census.value;
  const label = t("map.label", { n: total, warning: states[1] ?? 0, critical: states[2] ?? 0 });
  return (
    <div ref={box} class={small ? "map small" : "map"} tabIndex={0} role={small ? "link" : "application"} aria-label={label}>
      <canvas ref={base} aria-hidden="true" />
      <canvas ref={top} aria-hidden="true" />
    </div>
  );
}

const LONG_DRAW_MS = 8;

class Controller {
  private readonly renderer: MapRenderer;
  private readonly undo: (() => void)[] = [];
  private baseDirty = true;
  private topDirty = true;
  private scheduled = 0;
  private rests_until = 0;
  /** Until somebody moves the map it follows the fleet. */
  private following = true;
  private fitted = 0;
  private saving: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly box: HTMLElement,
    base: HTMLCanvasElement,
    top: HTMLCanvasElement,
    private readonly small: boolean,
  ) {
    this.renderer = new MapRenderer(base, top, small);
    maps.add(this.renderer);
    // What came while no map was there was never late for it.
    fleet.undrawn_append_ms = 0;
    if (!small) {
      this.restore();
      mainMap = { fit: () => this.refit(), centre: (id) => this.centre(id), zoom: (d) => this.move(() => this.renderer.zoomAt(d)) };
    }
    const observer = new ResizeObserver(() => {
      this.renderer.resize(box.clientWidth, box.clientHeight);
      this.autoFit();
      this.dirty(true);
    });
    observer.observe(box);
    this.undo.push(
      () => observer.disconnect(),
      onPositions(() => {
        // A fleet that appears, or grows a lot, is shown whole.
        if (this.following && fleet.count > this.fitted * 1.5) this.autoFit();
        this.dirty(false);
      }),
      effect(() => {
        void colours.value;
        this.renderer.forgetColours();
        this.dirty(true);
      }),
      effect(() => {
        void zones.value;
        void lang.value;
        this.dirty(true);
      }),
      // Trails fade without a frame.
      effect(() => {
        void quarter.value;
        this.dirty(false);
      }),
    );
    void loadLand().then(() => this.dirty(true));
    if (small) this.listenSmall();
    else this.listen();
  }

  stop(): void {
    maps.delete(this.renderer);
    if (!this.small) mainMap = undefined;
    cancelAnimationFrame(this.scheduled);
    clearTimeout(this.saving);
    this.undo.forEach((undo) => undo());
  }

  choose(id: string): void {
    this.renderer.selected = id;
    this.dirty(false);
  }

  private dirty(base: boolean): void {
    if (base) this.baseDirty = true;
    this.topDirty = true;
    if (!this.scheduled) this.scheduled = requestAnimationFrame(() => this.draw());
  }

  /**
   * A draw that took long is followed by as long a rest: browsers put drawing before messages, and
   * a map that only draws would show ever older positions.
   */
  private draw(): void {
    this.scheduled = 0;
    if (this.renderer.width === 0) return;
    const start = performance.now();
    if (start < this.rests_until) {
      this.scheduled = requestAnimationFrame(() => this.draw());
      return;
    }
    if (this.baseDirty) this.renderer.drawBase();
    if (this.topDirty) this.renderer.drawTop();
    this.baseDirty = this.topDirty = false;
    const end = performance.now();
    if (end - start > LONG_DRAW_MS) this.rests_until = end + (end - start);
  }

  private autoFit(): void {
    if (!this.following) return;
    this.renderer.fit();
    this.fitted = Math.max(1, fleet.count);
    this.dirty(true);
  }

  private refit(): void {
    this.following = true;
    this.autoFit();
    setParams({ at: "" });
  }

  private centre(id: string): void {
    const slot = fleet.bySlot.get(id);
    if (slot === undefined) return;
    this.move(() =>
      this.renderer.setView({
        x: fleet.x[slot] as number,
        y: fleet.y[slot] as number,
        zoom: Math.max(this.renderer.view.zoom, 13),
      }),
    );
  }

  private move(change: () => void): void {
    change();
    this.following = false;
    this.dirty(true);
    clearTimeout(this.saving);
    this.saving = setTimeout(() => {
      if (page.peek() !== "map") return;
      const { x, y, zoom } = this.renderer.view;
      setParams({ at: `${latOf(y).toFixed(5)},${lonOf(x).toFixed(5)},${zoom.toFixed(2)}` });
    }, 250);
  }

  private restore(): void {
    const [lat, lon, zoom] = param("at").split(",").map(Number);
    if (lat === undefined || lon === undefined || zoom === undefined) return;
    if (![lat, lon, zoom].every(Number.isFinite)) return;
    this.renderer.setView({ x: mercatorX(lon), y: mercatorY(lat), zoom });
    this.following = false;
  }

  private on<K extends keyof HTMLElementEventMap>(name: K, handler: (event: HTMLElementEventMap[K]) => void): void {
    this.box.addEventListener(name, handler, { passive: false });
    this.undo.push(() => this.box.removeEventListener(name, handler));
  }

  private listenSmall(): void {
    this.on("click", () => go("/map"));
    this.on("keydown", (event) => {
      if (event.key === "Enter") go("/map");
    });
  }

  private listen(): void {
    this.on("wheel", (event) => {
      event.preventDefault();
      const pixels = event.deltaMode === 0 ? event.deltaY : event.deltaY * 30;
      const { x, y } = this.at(event);
      this.move(() => this.renderer.zoomAt(Math.max(-1, Math.min(1, -pixels / 300)), x, y));
    });
    this.on("dblclick", (event) => {
      const { x, y } = this.at(event);
      this.move(() => this.renderer.zoomAt(event.shiftKey ? -1 : 1, x, y));
    });
    this.listenPointers();
    this.on("keydown", (event) => this.key(event));
  }

  private listenPointers(): void {
    const held = new Map<number, { x: number; y: number }>();
    let travelled = 0;
    this.on("pointerdown", (event) => {
      held.set(event.pointerId, this.at(event));
      if (held.size === 1) travelled = 0;
      this.box.setPointerCapture(event.pointerId);
    });
    this.on("pointermove", (event) => {
      const now = this.at(event);
      const before = held.get(event.pointerId);
      if (!before) {
        this.hover(this.renderer.hit(now.x, now.y));
        return;
      }
      const [dx, dy] = [now.x - before.x, now.y - before.y];
      travelled += Math.abs(dx) + Math.abs(dy);
      if (travelled < 4) return;
      const other = [...held].find(([id]) => id !== event.pointerId)?.[1];
      held.set(event.pointerId, now);
      if (!other) this.move(() => this.renderer.panPixels(-dx, -dy));
      else {
        const spread = (p: { x: number; y: number }): number => Math.hypot(p.x - other.x, p.y - other.y);
        const delta = Math.log2(Math.max(1, spread(now)) / Math.max(1, spread(before)));
        this.move(() => this.renderer.zoomAt(delta, (now.x + other.x) / 2, (now.y + other.y) / 2));
      }
    });
    this.on("pointerup", (event) => {
      const { x, y } = this.at(event);
      if (held.delete(event.pointerId) && travelled < 4) setParams({ device: this.renderer.hit(x, y) }, false);
    });
    this.on("pointercancel", (event) => void held.delete(event.pointerId));
    this.on("pointerleave", () => this.hover(""));
  }

  private hover(id: string): void {
    if (id === this.renderer.hovered) return;
    this.renderer.hovered = id;
    this.box.style.cursor = id ? "pointer" : "";
    this.box.title = id;
    this.dirty(false);
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 240 : 60;
    const pan: Record<string, [number, number]> = {
      ArrowLeft: [-far, 0],
      ArrowRight: [far, 0],
      ArrowUp: [0, -far],
      ArrowDown: [0, far],
    };
    const step = pan[event.key];
    if (step) this.move(() => this.renderer.panPixels(...step));
    else if (event.key === "+" || event.key === "=") this.move(() => this.renderer.zoomAt(0.5));
    else if (event.key === "-" || event.key === "_") this.move(() => this.renderer.zoomAt(-0.5));
    else if (event.key === "0" || event.key === "Home") this.refit();
    else if (event.key === "Escape") setParams({ device: "" });
    else return;
    event.preventDefault();
  }

  private at(event: MouseEvent): { x: number; y: number } {
    const rect = this.box.getBoundingClientRect();
    return { x: event.clientX - rect.left, y: event.clientY - rect.top };
  }
}
