// One plane on the screen. The axes run towards left, posterior and inferior, so it is drawn as
// it is stored: columns from left to right, rows from top to bottom.
"use strict";

class PlaneView {
  constructor(section, voxels) {
    this.section = section;
    this.voxels = voxels;
    for (const axis of ["across", "down", "through"]) this[axis] = Number(section.dataset[axis]);
    [this.columns, this.rows] = [scene.shape[this.across], scene.shape[this.down]];
    const parts = [
      "stage",
      "frame",
      "image",
      "overlay",
      "upright",
      "level",
      "bar",
      "place",
      "slice",
    ];
    for (const name of parts) this[name] = section.querySelector(`.${name}`);
    this.slider = section.querySelector("input");
    this.slider.max = scene.shape[this.through] - 1;
    [this.image.width, this.image.height] = [this.columns, this.rows];
    this.labels = new Uint16Array(this.columns * this.rows);
  }

  /** Fit the plane into its cell, with the aspect that it has in millimetres. */
  fit() {
    const { clientWidth, clientHeight } = this.stage;
    if (!clientWidth || !clientHeight) return;
    const widthMm = this.columns * scene.spacing_mm[this.across];
    const heightMm = this.rows * scene.spacing_mm[this.down];
    const scale = Math.min(clientWidth / widthMm, clientHeight / heightMm);
    const [width, height] = [Math.max(1, widthMm * scale), Math.max(1, heightMm * scale)];
    Object.assign(this.frame.style, {
      width: `${width}px`,
      height: `${height}px`,
      left: `${(clientWidth - width) / 2}px`,
      top: `${(clientHeight - height) / 2}px`,
    });
    this.overlay.width = Math.max(1, Math.round(width * devicePixelRatio));
    this.overlay.height = Math.max(1, Math.round(height * devicePixelRatio));
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

  /** Move the other planes to what lies under the pointer. */
  point(event) {
    const { left, top, width, height } = this.frame.getBoundingClientRect();
    const column = Math.floor(((event.clientX - left) / width) * this.columns);
    const row = Math.floor(((event.clientY - top) / height) * this.rows);
    state.cursor[this.across] = clamp(column, 0, this.columns - 1);
    state.cursor[this.down] = clamp(row, 0, this.rows - 1);
  }

  scroll(steps) {
    const last = scene.shape[this.through] - 1;
    state.cursor[this.through] = clamp(state.cursor[this.through] + steps, 0, last);
  }
}

/** Voxel at each pixel of a row or column, and of `reach` pixels beyond its ends. */
function nearest(pixels, voxels, reach) {
  return Int32Array.from({ length: pixels + 2 * reach }, (_, index) => {
    const pixel = clamp(index - reach, 0, pixels - 1);
    return Math.floor(((pixel + 0.5) * voxels) / pixels);
  });
}
