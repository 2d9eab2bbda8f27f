import { useState } from 'preact/hooks';
import { Icon } from './icons';
import { themeHere, turnTheme } from './theme';

export function ThemeButton() {
  const [theme, setTheme] = useState(themeHere);
  const other = theme === 'dark' ? 'Light' : 'Dark';
  return <button class="as-plain" data-cy="as-theme" aria-label={`${other} colours`} title={`${other} colours`} onClick={() => setTheme(turnTheme())}><Icon of={theme === 'dark' ? 'sun' : 'moon'} /></button>;
}
