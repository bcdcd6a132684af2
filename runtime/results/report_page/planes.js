// One plane on the screen. The axes run towards left, posterior and inferior, so it is drawn as
// it is stored: columns from left to right, rows from top to bottom.
"use strict";

const mostZoom = 16;
const mostOverlayPixels = 2048;

class PlaneView {
  constructor(section, voxels) {
    this.section = section;
    this.voxels = voxels;
    for (const axis of ["across", "down", "through"]) this[axis] = Number(section.dataset[axis]);
    [this.columns, this.rows] = [scene.shape[this.across], scene.shape[this.down]];
    const parts = [
      "stage",
      "frame",
      "edges",
      "image",
      "overlay",
      "upright",
      "level",
      "bar",
      "place",
      "slice",
      "ruler",
      "length",
    ];
    for (const name of parts) this[name] = section.querySelector(`.${name}`);
    this.slider = section.querySelector("input");
    this.slider.max = scene.shape[this.through] - 1;
    [this.image.width, this.image.height] = [this.columns, this.rows];
    this.labels = new Uint16Array(this.columns * this.rows);
    this.reset();
  }

  /** Show the whole plane, without a distance. */
  reset() {
    [this.zoom, this.shift, this.measured] = [1, [0, 0], null];
  }

  /** Fit the plane into its cell, enlarged and shifted, with its aspect in millimetres. */
  fit() {
    const { clientWidth, clientHeight } = this.stage;
    if (!clientWidth || !clientHeight) return;
    const widthMm = this.columns * scene.spacing_mm[this.across];
    const heightMm = this.rows * scene.spacing_mm[this.down];
    const scale = this.zoom * Math.min(clientWidth / widthMm, clientHeight / heightMm);
    const [width, height] = [Math.max(1, widthMm * scale), Math.max(1, heightMm * scale)];
    const left = (clientWidth - width) / 2 + this.shift[0] * width;
    const top = (clientHeight - height) / 2 + this.shift[1] * height;
    place(this.frame, left, top, width, height);
    // Letters stand at the edges of what is in sight.
    const [inLeft, inTop] = [Math.max(0, left), Math.max(0, top)];
    const [inRight, inBottom] = [
      Math.min(clientWidth, left + width),
      Math.min(clientHeight, top + height),
    ];
    place(this.edges, inLeft, inTop, inRight - inLeft, inBottom - inTop);
    const sharpness = Math.min(devicePixelRatio, mostOverlayPixels / Math.max(width, height));
    this.overlay.width = Math.max(1, Math.round(width * sharpness));
    this.overlay.height = Math.max(1, Math.round(height * sharpness));
    this.drawBar(scale);
  }

  drawBar(scale) {
    const lengths = [500, 200, 100, 50, 20, 10, 5, 2, 1];
    const millimetres = lengths.find((length) => length * scale <= this.stage.clientWidth / 4) ?? 1;
    this.bar.textContent = `${millimetres} mm`;
    this.bar.style.width = `${millimetres * scale}px`;
  }

  draw(greys, fills, lines) {
    const index = state.cursor[this.through];
    this.slider.value = index;
    this.slice.textContent = `${index + 1} / ${scene.shape[this.through]}`;
    this.place.textContent = `${placeText(positionMm(state.cursor), this.through)} mm`;
    this.drawImage(greys);
    this.drawOverlay(fills, lines);
    this.upright.style.left = `${((state.cursor[this.across] + 0.5) / this.columns) * 100}%`;
    this.level.style.top = `${((state.cursor[this.down] + 0.5) / this.rows) * 100}%`;
    this.drawRuler();
  }

  drawRuler() {
    const shown = this.measured !== null && this.measured.index === state.cursor[this.through];
    this.ruler.classList.toggle("shown", shown);
    this.length.textContent = shown ? `${this.lengthMm().toFixed(1)} mm` : "";
    if (!shown) return;
    const { from, to } = this.measured;
    const line = this.ruler.firstElementChild;
    [from, to].forEach(([across, down], end) => {
      line.setAttribute(`x${end + 1}`, across);
      line.setAttribute(`y${end + 1}`, down);
    });
    this.length.style.left = `${100 * to[0]}%`;
    this.length.style.top = `${100 * to[1]}%`;
  }

  /** Distance between the ends of the line, by the scan's affine. */
  lengthMm() {
    const { from, to } = this.measured;
    const step = [0, 0, 0];
    step[this.across] = (to[0] - from[0]) * this.columns;
    step[this.down] = (to[1] - from[1]) * this.rows;
    return distanceMm(step);
  }

  drawImage(greys) {
    const context = this.image.getContext("2d");
    const picture = context.createImageData(this.columns, this.rows);
    const pixels = new Uint32Array(picture.data.buffer);
    const start = state.cursor[this.through] * strides[this.through];
    let pixel = 0;
    for (let row = 0; row < this.rows; row++) {
      let offset = start + row * strides[this.down];
      for (let column = 0; column < this.columns; column++, offset += strides[this.across]) {
        const label = this.voxels.labels[offset];
        this.labels[pixel] = state.shown[label] ? label : 0;
        pixels[pixel++] = greys[this.voxels.image[offset]];
      }
    }
    context.putImageData(picture, 0, 0);
  }

  /** Labels at the resolution of the screen, so that outlines are equally thin everywhere. */
  drawOverlay(fills, lines) {
    const { width, height } = this.overlay;
    const context = this.overlay.getContext("2d");
    const picture = context.createImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    const reach = Math.max(1, Math.round(devicePixelRatio));
    const columnOf = nearest(width, this.columns, reach);
    const rowOf = nearest(height, this.rows, reach);
    for (let y = 0; y < height; y++) {
      const [above, here, below] = [0, reach, 2 * reach].map(
        (shift) => rowOf[y + shift] * this.columns,
      );
      for (let x = 0; x < width; x++) {
        const column = columnOf[x + reach];
        const label = this.labels[here + column];
        if (label === 0) continue;
        const inside =
          !state.outlines ||
          (label === this.labels[here + columnOf[x]] &&
            label === this.labels[here + columnOf[x + 2 * reach]] &&
            label === this.labels[above + column] &&
            label === this.labels[below + column]);
        pixels[y * width + x] = inside ? fills[label] : lines[label];
      }
    }
    context.putImageData(picture, 0, 0);
  }

  /** Place of the pointer in the plane, from 0 to 1 across and down. */
  placeUnder(event) {
    const { left, top, width, height } = this.frame.getBoundingClientRect();
    const shares = [(event.clientX - left) / width, (event.clientY - top) / height];
    return shares.map((share) => clamp(share, 0, 1));
  }

  /** Move the other planes to what lies under the pointer. */
  point(event) {
    const [across, down] = this.placeUnder(event);
    state.cursor[this.across] = clamp(Math.floor(across * this.columns), 0, this.columns - 1);
    state.cursor[this.down] = clamp(Math.floor(down * this.rows), 0, this.rows - 1);
  }

  /** Enlarge by a factor; the place (0 to 1 across and down) stays where it is. */
  zoomBy(factor, place = [0.5, 0.5]) {
    const zoom = clamp(this.zoom * factor, 1, mostZoom);
    const grown = zoom / this.zoom;
    this.zoom = zoom;
    this.setShift(this.shift.map((shift, axis) => {
      const offset = place[axis] - 0.5;
      return (shift + offset) / grown - offset;
    }));
  }

  /** Shift the plane by pixels of the screen. */
  pan(pixelsAcross, pixelsDown) {
    const { width, height } = this.frame.getBoundingClientRect();
    const [across, down] = this.shift;
    this.setShift([across + pixelsAcross / width, down + pixelsDown / height]);
  }

  /** Set the shift in parts of the plane; some of it stays in sight. */
  setShift(shift) {
    const most = this.zoom > 1 ? 0.5 : 0;
    this.shift = shift.map((each) => clamp(each, -most, most));
    this.fit();
  }

  scroll(steps) {
    const last = scene.shape[this.through] - 1;
    state.cursor[this.through] = clamp(state.cursor[this.through] + steps, 0, last);
  }
}

function place(box, left, top, width, height) {
  const pixels = Object.entries({ left, top, width, height }).map(([k, v]) => [k, `${v}px`]);
  Object.assign(box.style, Object.fromEntries(pixels));
}

/** Voxel at each pixel of a row or column, and of `reach` pixels beyond its ends. */
function nearest(pixels, voxels, reach) {
  return Int32Array.from({ length: pixels + 2 * reach }, (_, index) => {
    const pixel = clamp(index - reach, 0, pixels - 1);
    return Math.floor(((pixel + 0.5) * voxels) / pixels);
  });
}
