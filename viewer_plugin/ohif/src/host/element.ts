// The way into the viewer's React tree without importing React: a function component may return a plain element object.
export interface Host {
  servicesManager: any;
  commandsManager: any;
  extensionManager: any;
}

/** The mark of an element, which depends on the viewer's React: so it is taken from an element that the viewer made. */
function elementType(host: Host): symbol {
  try {
    const made = host.extensionManager.getModuleEntry('@ohif/extension-cornerstone.panelModule.panelSegmentation').component({});
    if (typeof made?.$$typeof === 'symbol') return made.$$typeof;
  } catch { /* it is not there in every version */ }
  return Symbol.for('react.element');
}

/** A component of the viewer that owns one element and hands it to `mount`, which returns what takes it away again. */
export function hostComponent(host: Host, mount: (element: HTMLElement) => () => void): () => unknown {
  let unmount: (() => void) | undefined;
  let mounted: HTMLElement | null = null;
  // one and the same function each time: React calls it with the element when it is there, with null when it goes
  const ref = (element: HTMLElement | null) => {
    if (element === mounted) return;
    unmount?.();
    unmount = undefined;
    mounted = element;
    if (element) unmount = mount(element);
  };
  let type: symbol | undefined;
  return () => {
    type ??= elementType(host);
    const isOld = type === Symbol.for('react.element');
    const props = { className: 'as-root', style: { height: '100%' }, ...(isOld ? {} : { ref }) };
    return { $$typeof: type, type: 'div', key: null, ref: isOld ? ref : null, props, _owner: null, _store: {} };
  };
}
