// The three planes together, and all that can be done with them.
"use strict";

const wheelToDouble = 240;

class Viewer {
  constructor(voxels) {
    this.voxels = voxels;
    this.main = document.querySelector("main");
    this.planes = [...document.querySelectorAll(".plane")].map(
      (section) => new PlaneView(section, voxels),
    );
    this.scheduled = false;
    this.planes.forEach((plane) => this.listen(plane));
    this.listenToKeys();
    this.listenToControls();
    this.listenToLabels();
    new ResizeObserver(() => this.fit()).observe(this.main);
    addEventListener("resize", () => this.fit());
    this.activate(this.planes[0]);
    this.fit();
  }

  fit() {
    this.planes.forEach((plane) => plane.fit());
    this.update();
  }

  /** Draw once before the screen is next refreshed, however much has changed. */
  update() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  draw() {
    const greys = greyOfLevels();
    const [fills, lines] = [coloursOfLabels(state.opacity), coloursOfLabels(2.5 * state.opacity)];
    this.planes.forEach((plane) => plane.draw(greys, fills, lines));
    this.describe();
    this.showControls();
  }

  /** What lies under the crosshair. */
  describe() {
    const level = this.voxels.image[offsetOf(state.cursor)];
    const sign = { 0: "≤ ", 255: "≥ " }[level] ?? "";
    const rank = this.voxels.labels[offsetOf(state.cursor)];
    const positions = positionMm(state.cursor);
    element("position").textContent = [
      `${[0, 1, 2].map((axis) => placeText(positions, axis)).join("  ")} mm`,
      `voxel ${storedIndex(state.cursor).join(", ")}`,
      `intensity ${sign}${number(scene.intensities[level])}`,
      rank ? document.querySelector(`[data-go="${rank}"]`).textContent : "background",
    ].join("  ·  ");
  }

  showControls() {
    const [lower, upper] = state.window;
    const values = {
      opacity: 100 * state.opacity,
      level: (lower + upper) / 2,
      width: upper - lower,
    };
    for (const [id, value] of Object.entries(values)) {
      element(id).value = value;
      element(id).nextElementSibling.textContent =
        id === "opacity" ? `${Math.round(value)} %` : number(value);
    }
  }

  activate(plane) {
    this.active = plane;
    this.planes.forEach((other) => other.section.classList.toggle("active", other === plane));
  }

  listen(plane) {
    let travelled = 0;
    const change = (action) => (event) => {
      this.activate(plane);
      action(event);
      this.update();
    };
    listenToDrags(plane, change(() => {}));
    plane.frame.addEventListener("dblclick", () => {
      this.main.classList.toggle("enlarged");
      this.fit();
    });
    plane.section.addEventListener("focusin", () => this.activate(plane));
    plane.slider.addEventListener(
      "input",
      change(() => (state.cursor[plane.through] = Number(plane.slider.value))),
    );
    plane.stage.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (event.ctrlKey) {
          const factor = 2 ** (-event.deltaY / wheelToDouble);
          change(() => plane.zoomBy(factor, plane.placeUnder(event)))(event);
          return;
        }
        // A notch of a wheel is one slice; the small steps of a touch pad add up to one.
        travelled += event.deltaMode === 0 ? event.deltaY : 100 * Math.sign(event.deltaY);
        if (Math.abs(travelled) < 40) return;
        change(() => plane.scroll(Math.sign(travelled)))(event);
        travelled = 0;
      },
      { passive: false },
    );
  }

  listenToKeys() {
    const steps = {
      ArrowUp: -1,
      ArrowLeft: -1,
      ArrowDown: 1,
      ArrowRight: 1,
      PageUp: -10,
      PageDown: 10,
    };
    const zooms = { "+": Math.SQRT2, "=": Math.SQRT2, "-": Math.SQRT1_2 };
    document.addEventListener("keydown", (event) => {
      const taken =
        event.target.matches(".controls input, select") || event.ctrlKey || event.altKey || event.metaKey;
      if (taken || !(event.key in steps || event.key in zooms)) return;
      event.preventDefault();
      if (event.key in zooms) this.active.zoomBy(zooms[event.key]);
      else this.active.scroll(steps[event.key]);
      this.update();
    });
  }

  listenToControls() {
    const on = (id, type, action) =>
      element(id).addEventListener(type, () => {
        action(element(id));
        this.update();
      });
    const setWindow = () => {
      const [level, width] = [Number(element("level").value), Number(element("width").value)];
      state.window = [level - width / 2, level + width / 2];
    };
    for (const [id, limits] of [["level", levelLimits()], ["width", widthLimits()]]) {
      Object.assign(element(id), { min: limits[0], max: limits[1] });
    }
    on("opacity", "input", (slider) => (state.opacity = Number(slider.value) / 100));
    on("level", "input", setWindow);
    on("width", "input", setWindow);
    on("outlines", "change", (box) => (state.outlines = box.checked));
    on("crosshair", "change", (box) => this.main.classList.toggle("plain", !box.checked));
    on("smooth", "change", (box) => this.main.classList.toggle("nearest", !box.checked));
    on("reset", "click", () => {
      Object.assign(state, { cursor: [...scene.centre], window: [...scene.window], opacity: 0.4 });
      this.planes.forEach((plane) => plane.reset());
      this.fit();
    });
    const windows = { initial: scene.window, ...scene.windows };
    element("presets").hidden = Object.keys(scene.windows).length === 0;
    element("preset").append(...Object.keys(windows).map((name) => new Option(name, name)));
    on("preset", "change", (choice) => (state.window = [...windows[choice.value]]));
  }

  listenToLabels() {
    const boxes = [...document.querySelectorAll("[data-rank]")];
    const show = (box, shown) => {
      box.checked = shown;
      state.shown[Number(box.dataset.rank)] = Number(shown);
      this.update();
    };
    boxes.forEach((box) => box.addEventListener("change", () => show(box, box.checked)));
    element("all").addEventListener("click", () => boxes.forEach((box) => show(box, true)));
    element("none").addEventListener("click", () => boxes.forEach((box) => show(box, false)));
    for (const button of document.querySelectorAll("[data-go]")) {
      button.addEventListener("click", () => {
        state.cursor = middleOf(Number(button.dataset.go), this.voxels.labels) ?? state.cursor;
        this.update();
      });
    }
  }
}

function number(value) {
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

function complain(text) {
  element("message").textContent = text;
  element("message").hidden = false;
}

async function start() {
  for (const swatch of document.querySelectorAll("[data-colour]")) {
    swatch.style.backgroundColor = swatch.dataset.colour;
  }
  if (typeof DecompressionStream === "undefined") {
    complain(
      "This browser cannot unpack the slices. Chrome or Edge 80, Firefox 113, Safari 16.4 and later can.",
    );
    return;
  }
  const image = await unpack("image", voxelCount);
  const bytes = await unpack("labels", voxelCount * scene.label_bytes);
  const labels = scene.label_bytes === 2 ? new Uint16Array(bytes.buffer) : bytes;
  new Viewer({ image, labels });
}

start().catch((error) =>
  complain(`The slices cannot be shown: ${error.message}. The tables are not affected.`),
);
