"""Every link, anchor and image inside _docs/: `python .ci/linkcheck.py [FOLDER]`. Exit status 1 when something is broken

Also an error: a page that needs the internet to show (scripts, styles, fonts, pictures from elsewhere), maths left as source, a
picture without alternative text being only counted. Links to other sites are counted, not followed."""
import re, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

root = Path(__file__).resolve().parent.parent

class Page(HTMLParser):
    "Links, loads, ids and plain text of one page"
    def __init__(self, path:Path):
        super().__init__()
        self.links, self.loads, self.ids, self.stack, self.leftover, self.alts = [], [], set(), [], [], 0
        self.feed(path.read_text(encoding='utf-8'))
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag not in ('img','link','meta','br','hr','input','source'): self.stack.append(tag)
        if i := a.get('id') or (tag=='a' and a.get('name')): self.ids.add(i)
        if tag=='a' and a.get('href') is not None: self.links.append(a['href'])
        if tag in ('img','script','iframe','source','video') and a.get('src'): self.loads.append(a['src'])
        if tag=='link' and a.get('href') and a.get('rel') in ('stylesheet','icon','preload','modulepreload'): self.loads.append(a['href'])
        if tag=='img' and not a.get('alt'): self.alts += 1
    def handle_endtag(self, tag):
        if tag in self.stack:
            while self.stack.pop()!=tag: pass
    def handle_data(self, text):
        if not {'pre','code','script','style'} & set(self.stack): self.leftover += re.findall(r'\$[^$\n]*\\[a-zA-Z]+[^$\n]*\$|\\[(\[].+?\\[)\]]', text)

def check(site:Path)->tuple[dict,list[str]]:
    "Counts, and what is broken"
    pages = {p: Page(p) for p in sorted(site.rglob('*.html')) if 'site_libs' not in p.parts}
    n, bad = dict(pages=len(pages), links=0, anchors=0, images_and_files=0, to_other_sites=0, images_without_alt=sum(p.alts for p in pages.values())), []
    for path,page in pages.items():
        name, base = path.relative_to(site).as_posix(), path.as_uri()
        bad += [f'{name}: maths left as source: {s[:60]}' for s in page.leftover]
        for kind,refs in (('link', page.links), ('load', page.loads)):
            for ref in refs:
                url = urlsplit(ref)
                if url.scheme=='data' or (kind=='link' and ref in ('','#')): continue
                if url.scheme in ('http','https') or ref.startswith('//'):
                    if kind=='load': bad.append(f'{name}: needs the internet: {ref}')
                    else: n['to_other_sites'] += 1
                    continue
                if url.scheme: continue # mailto:, javascript:
                to = Path(unquote(urlsplit(urljoin(base, ref)).path))
                if to.is_dir(): to = to/'index.html'
                n['links' if kind=='link' else 'images_and_files'] += 1
                if not to.exists(): bad.append(f'{name}: broken {kind}: {ref}'); continue
                if url.fragment and to in pages:
                    n['anchors'] += 1
                    if unquote(url.fragment) not in pages[to].ids: bad.append(f'{name}: no such anchor: {ref}')
    for p in site.rglob('*.css'):
        for u in re.findall(r'(?:url\(|@import\s+)["\']?([^"\')\s;]+)', p.read_text(encoding='utf-8')):
            if u.startswith(('data:','#')): continue
            if re.match(r'(https?:)?//', u): bad.append(f'{p.relative_to(site)}: needs the internet: {u}')
            elif not (p.parent/re.sub(r'[?#].*', '', u)).exists(): bad.append(f'{p.relative_to(site)}: broken: {u}')
            else: n['images_and_files'] += 1
    if not pages: bad.append(f'{site}: no pages; make docs')
    return n, bad

if __name__ == '__main__':
    n, bad = check(Path(sys.argv[1] if len(sys.argv)>1 else root/'_docs').resolve())
    print(*bad, sep='\n', end='\n' if bad else '')
    print(', '.join(f"{v} {k.replace('_',' ')}" for k,v in n.items())+f': {len(bad)} broken')
    sys.exit(bool(bad))
