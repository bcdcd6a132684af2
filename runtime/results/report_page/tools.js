// What dragging in a plane does: it points, sets the window, measures or pans.
"use strict";

const pixelsToDouble = 150;

/** The tool for a press of a button: the right and the middle one have theirs. */
function toolOf(event) {
  if (event.button === 2) return "window";
  if (event.button === 1 || event.shiftKey) return "pan";
  return document.querySelector("#tools input:checked").value;
}

const tools = {
  point: {
    press: (plane, event) => plane.point(event),
    drag: (plane, event) => plane.point(event),
  },
  window: {
    press: () => {},
    /** To the right widens, downwards raises the level, so that the picture darkens. */
    drag: (plane, event, moved) => {
      const [lower, upper] = state.window;
      const width = clamp((upper - lower) * 2 ** (moved[0] / pixelsToDouble), ...widthLimits());
      const level = (lower + upper) / 2 + (moved[1] * width) / pixelsToDouble;
      const [lowest, highest] = levelLimits();
      const kept = clamp(level, lowest, highest);
      state.window = [kept - width / 2, kept + width / 2];
    },
  },
  measure: {
    press: (plane, event) => {
      const place = plane.placeUnder(event);
      plane.measured = { from: place, to: place, index: state.cursor[plane.through] };
    },
    drag: (plane, event) => (plane.measured.to = plane.placeUnder(event)),
  },
  pan: {
    press: () => {},
    drag: (plane, event, moved) => plane.pan(...moved),
  },
};

/** Call a tool while a pointer is down in a plane, `change` after each of its calls. */
function listenToDrags(plane, change) {
  let dragged = null;
  plane.frame.addEventListener("pointerdown", (event) => {
    if (dragged !== null) return;
    event.preventDefault();
    plane.section.focus({ preventScroll: true });
    plane.frame.setPointerCapture(event.pointerId);
    dragged = { tool: tools[toolOf(event)], place: [event.clientX, event.clientY] };
    dragged.tool.press(plane, event);
    change();
  });
  plane.frame.addEventListener("pointermove", (event) => {
    if (dragged === null) return;
    const place = [event.clientX, event.clientY];
    dragged.tool.drag(plane, event, [place[0] - dragged.place[0], place[1] - dragged.place[1]]);
    dragged.place = place;
    change();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    plane.frame.addEventListener(end, () => (dragged = null));
  }
  plane.stage.addEventListener("contextmenu", (event) => event.preventDefault());
}

function levelLimits() {
  return [
    Math.min(scene.intensities[0], scene.window[0]),
    Math.max(scene.intensities[255], scene.window[1]),
  ];
}

function widthLimits() {
  const [lowest, highest] = levelLimits();
  return [(highest - lowest) / 500, 2 * (highest - lowest)];
}
