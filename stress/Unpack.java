// Unpacks archives with TorchServe's code. Reads lines "ARCHIVE<tab>FOLDER"; answers each with "ok" or the class of the error.
import java.io.BufferedReader;
import java.io.File;
import java.io.FileInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import org.pytorch.serve.archive.utils.ZipUtils;

public class Unpack {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] paths = line.split("\t");
            File folder = new File(paths[1]);
            try (InputStream archive = new FileInputStream(paths[0])) {
                if (paths[0].endsWith(".mar")) {
                    ZipUtils.unzip(archive, folder);
                } else {
                    ZipUtils.decompressTarGzipFile(archive, folder);
                }
                System.out.println("ok");
            } catch (Exception error) {
                System.out.println(error.getClass().getName());
            }
        }
    }
}
