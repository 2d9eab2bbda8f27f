// Dark, as the viewer around it is and a reading room wants it, or light where this browser chose it. Images stay on black.
export type Theme = 'dark' | 'light';
const KEY = 'annotate.theme';

export function themeHere(): Theme {
  return localStorage.getItem(KEY) === 'light' ? 'light' : 'dark';
}

export function showTheme(theme: Theme): void {
  document.documentElement.dataset.annotateTheme = theme;
}

export function turnTheme(): Theme {
  const theme = themeHere() === 'dark' ? 'light' : 'dark';
  localStorage.setItem(KEY, theme);
  showTheme(theme);
  return theme;
}
