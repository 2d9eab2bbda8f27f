// Small pictures as SVG: signs of a font are not there on every machine.
const PATHS = {
  seen: 'M1.5 8s2.4-4.5 6.5-4.5S14.5 8 14.5 8 12.1 12.5 8 12.5 1.5 8 1.5 8Zm6.5 2a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z',
  hidden: 'M2 2l12 12M3.5 5.2C2.2 6.500 1.500 8 1.500 8s2.400 4.500 6.500 4.500c1 0 1.900-.2 2.700-.6M6.200 3.700C6.800 3.600 7.400 3.500 8 3.500c4.100 0 6.500 4.500 6.500 4.500s-.5 1-1.500 2',
  locked: 'M4.500 7V5a3.500 3.500 0 0 1 7 0v2M3 7h10v6.500H3Z',
  free: 'M4.500 7V5a3.500 3.500 0 0 1 6.800-1.200M3 7h10v6.500H3Z',
  rename: 'M2.500 13.500l.8-3 7.700-7.700 2.200 2.200-7.700 7.700Z',
  remove: 'M4 4l8 8M12 4l-8 8',
  again: 'M13 8a5 5 0 1 1-1.500-3.600M13 2v3h-3',
  undo: 'M3 6.500h6.500a3.500 3.500 0 0 1 0 7H7M3 6.500l3-3M3 6.500l3 3',
  redo: 'M13 6.500H6.500a3.500 3.500 0 0 0 0 7H9M13 6.500l-3-3M13 6.500l-3 3',
  back: 'M10 3L5 8l5 5',
  on: 'M6 3l5 5-5 5',
  sun: 'M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM8 1v1.500M8 13.500V15M1 8h1.500M13.500 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1',
  moon: 'M13.500 9.500A6 6 0 0 1 6.500 2.500a6 6 0 1 0 7 7Z',
  keys: 'M1.500 4.500h13v7h-13ZM4 7h.01M6.500 7h.01M9 7h.01M11.500 7h.01M5 9.500h6',
  warning: 'M8 2l6.500 11.500h-13ZM8 6.500v3.200M8 11.600h.01',
  aside: 'M8 1.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13ZM3.500 3.500l9 9',
};

export function Icon({ of, filled }: { of: keyof typeof PATHS; filled?: boolean }) {
  return (
    <svg width="15" height="15" viewBox="0 0 16 16" fill={filled ? 'currentColor' : 'none'} stroke="currentColor" stroke-width="1.3" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" style={{ display: 'block' }}>
      <path d={PATHS[of]} />
    </svg>
  );
}
