import java.io.File;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/** Runs a NameNode and a DataNode on the loopback interface until its standard input ends. */
public class HdfsServer {
    public static void main(String[] folder) throws Exception {
        MiniDFSCluster cluster =
                new MiniDFSCluster.Builder(new Configuration(), new File(folder[0]))
                        .numDataNodes(1)
                        .build();
        cluster.waitActive();
        int web = cluster.getNameNode().getHttpAddress().getPort();
        System.out.println("listens on " + cluster.getURI() + " " + web);
        while (System.in.read() >= 0) {}
        cluster.shutdown();
    }
}
