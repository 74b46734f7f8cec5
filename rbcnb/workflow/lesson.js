// The page of the lesson: draws its charts one after the other, marks the section that is read, checks exercises.
(async () => {
  const links = [...document.querySelectorAll("nav a")];
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
        for (const link of links) {
          if (link.hash === `#${target.id}`) link.setAttribute("aria-current", "location");
          else link.removeAttribute("aria-current");
        }
      }
    },
    { rootMargin: "-20% 0px -70% 0px" },
  );
  document.querySelectorAll("section").forEach((section) => seen.observe(section));
  for (const root of document.querySelectorAll(".rbcnb-explorer")) {
    await showExplorer(root, JSON.parse(root.nextElementSibling.textContent), window.rbcnbVega);
  }
  document.documentElement.dataset.ready = "yes";
})();
