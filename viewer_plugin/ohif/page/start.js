// What the stock page says in scripts of its own: where the viewer lies, and how it takes modules in.
window.PUBLIC_URL = '/viewer/';
window.browserImportFunction = address => import(address);
