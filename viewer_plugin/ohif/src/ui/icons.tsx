// Small pictures as SVG: signs of a font are not there on every machine.
const PATHS = {
  seen: 'M1.5 8s2.4-4.5 6.5-4.5S14.5 8 14.5 8 12.1 12.5 8 12.5 1.5 8 1.5 8Zm6.5 2a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z',
  hidden: 'M2 2l12 12M3.5 5.2C2.2 6.500 1.500 8 1.500 8s2.400 4.500 6.500 4.500c1 0 1.900-.2 2.700-.6M6.200 3.700C6.800 3.600 7.400 3.500 8 3.500c4.100 0 6.500 4.500 6.500 4.500s-.5 1-1.500 2',
  locked: 'M4.500 7V5a3.500 3.500 0 0 1 7 0v2M3 7h10v6.500H3Z',
  free: 'M4.500 7V5a3.500 3.500 0 0 1 6.800-1.200M3 7h10v6.500H3Z',
  rename: 'M2.500 13.500l.8-3 7.700-7.700 2.200 2.200-7.700 7.700Z',
  remove: 'M4 4l8 8M12 4l-8 8',
  again: 'M13 8a5 5 0 1 1-1.500-3.600M13 2v3h-3',
  aside: 'M8 1.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13ZM3.500 3.500l9 9',
};

export function Icon({ of, filled }: { of: keyof typeof PATHS; filled?: boolean }) {
  return (
    <svg width="15" height="15" viewBox="0 0 16 16" fill={filled ? 'currentColor' : 'none'} stroke="currentColor" stroke-width="1.3" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" style={{ display: 'block' }}>
      <path d={PATHS[of]} />
    </svg>
  );
}
